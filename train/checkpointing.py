"""Saving and restoring a run: Orbax checkpoints that hold all a resume needs.

A run folder holds `model.json` (the model's configuration), `labels.json` (the prompts it was
trained on) and `checkpoints/STEP/{params, optimizer, position, metrics}`. The step says which batch
comes next; `position` holds the fingerprint of the data that the steps went through. The last two
checkpoints and the best by held-out loss are kept.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from notagen_jax.checkpoints.training import (
    ITEMS,
    METRIC,
    MODEL_FILE,
    PARAMS_ITEM,
    STEPS_FOLDER,
    whole_steps,
)
from notagen_jax.config import ModelConfig, read_config
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from train.step import TrainState


class Sizes(Protocol):
    """The configuration of any model that the loop trains."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """The fields that decide the parameters; a run goes on only with the same."""
        ...

    @property
    def dtype(self) -> str:
        """Type of its arithmetic."""
        ...

    def to_json(self) -> str:
        """The configuration as a JSON object."""
        ...

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read what `to_json` wrote; `source` names the file in errors."""
        ...


def _metric(metrics: dict[str, float]) -> float:
    """Held-out loss of a checkpoint that was saved after an evaluation."""
    return metrics[METRIC]


def model_of_run(run: Path) -> ModelConfig | None:
    """The model of a run that has checkpoints to go on from, else None."""
    if not whole_steps(run):
        return None
    return read_config(run / MODEL_FILE)


class RunCheckpoints:
    """The checkpoints of one run folder, the same for all of its processes."""

    def __init__(self, run: Path, model: Sizes, data: str) -> None:
        """Open or start a run; `data` is the fingerprint of its data.

        Raises `NotaGenError` when the folder holds a model of other sizes or cannot be written.
        """
        self._run = run
        self._data = data
        description = run / MODEL_FILE
        if description.is_file():
            before = model.from_json(read_text(description, "choose another --run folder"), str(description))
            changed = [name for name, size in model.sizes.items() if before.sizes[name] != size]
            if changed:
                raise NotaGenError(
                    f"{run}: this run was started with another {', '.join(changed)}; "
                    "choose another --run folder, or the sizes it was started with"
                )
        elif jax.process_index() == 0:
            write_atomic(description, model.to_json())
        self._manager = ocp.CheckpointManager(
            (run / STEPS_FOLDER).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation.AnyPreservationPolicy(
                    [
                        preservation.LatestN(2),
                        preservation.BestN(
                            get_metric_fn=_metric, reverse=True, n=1, keep_checkpoints_without_metrics=False
                        ),
                    ]
                ),
                best_fn=_metric,
                best_mode="min",
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
            item_names=ITEMS,
        )

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Wait for saves in the background and release the folder.

        Raises `NotaGenError` when one of them failed, unless another error ends the run.
        """
        try:
            with self._writing():
                self._manager.wait_until_finished()
        except NotaGenError:
            if kind is None:
                raise
        finally:
            self._manager.close()

    @property
    def last_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return max(whole_steps(self._run), default=None)

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and held-out loss of the best whole checkpoint that was saved after an evaluation."""
        losses = []
        for step in whole_steps(self._run):
            metrics = self._manager.metrics(step)
            if metrics:
                losses.append((_metric(metrics), step))
        return min(losses)[::-1] if losses else None

    def save(self, step: int, state: TrainState, metrics: dict[str, float] | None) -> None:
        """Start saving in the background; `metrics` only after an evaluation.

        Raises `NotaGenError` when this save or the one before it fails; the checkpoints so far stay.
        """
        with self._writing():
            if step in self._manager.all_steps():
                if step in whole_steps(self._run):
                    return
                self._manager.delete(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    **{PARAMS_ITEM: ocp.args.StandardSave(state.params)},
                    optimizer=ocp.args.StandardSave(state.optimizer),
                    position=ocp.args.JsonSave({"step": step, "data": self._data}),
                ),
                metrics=metrics,
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            kept = whole_steps(self._run)
            good = f"the last whole one is of step {kept[-1]}" if kept else "there is none yet"
            raise NotaGenError(
                f"{self._run / STEPS_FOLDER}: cannot write a checkpoint ({_reason(error)}); {good}. "
                "Make room, or move the run and give its new folder as --run; the same command goes on"
            ) from error

    def restore(self, like: TrainState) -> TrainState:
        """The newest whole checkpoint; `like` gives shapes, types and places.

        Raises `NotaGenError` when it is damaged, or was made with other data or another order of it.
        """
        step = whole_steps(self._run)[-1]
        folder = self._run / STEPS_FOLDER / str(step)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{PARAMS_ITEM: ocp.args.StandardRestore(like.params)},
                    optimizer=ocp.args.StandardRestore(like.optimizer),
                    position=ocp.args.JsonRestore(),
                ),
            )
        except (OSError, ValueError, KeyError) as error:
            raise NotaGenError(
                f"{folder}: cannot go on from this checkpoint ({error}); "
                "delete the folder to go on from the one before it"
            ) from error
        if restored.position["data"] != self._data:
            raise NotaGenError(
                f"{self._run}: this run was started with other data settings or another seed; set them as "
                "they were, or start another --run with --init from this one"
            )
        count = jax.make_array_from_callback((), like.step.sharding, lambda _: np.int32(step))
        return TrainState(count, restored[PARAMS_ITEM], restored.optimizer)


def _reason(error: BaseException) -> str:
    """The first line of an error that storage libraries write pages of."""
    return next(iter(str(error).splitlines()), type(error).__name__)
