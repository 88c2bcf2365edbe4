"""Saving and restoring a run: Orbax checkpoints that hold all a resume needs.

A run folder holds `model.json` (the model's configuration), `labels.json` (the prompts it was
trained on) and `checkpoints/STEP/{params, optimizer, position, metrics}`. The step says which batch
comes next; `position` holds the fingerprint of the data that the steps went through. The last two
checkpoints and the best by held-out loss are kept.
"""

from pathlib import Path
from typing import Protocol, Self

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preservation

from notagen_jax.checkpoints.training import METRIC, MODEL_FILE, PARAMS_ITEM, STEPS_FOLDER
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
    if not any(path.name.isdecimal() for path in (run / STEPS_FOLDER).glob("*")):
        return None
    return read_config(run / MODEL_FILE)


class RunCheckpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run: Path, model: Sizes, data: str) -> None:
        """Open or start a run; `data` is the fingerprint of its data.

        Raises `NotaGenError` when the folder holds a model of other sizes.
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
        else:
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
            ),
            item_names=(PARAMS_ITEM, "optimizer", "position"),
        )

    @property
    def last_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, metrics: dict[str, float] | None) -> None:
        """Start saving in the background; `metrics` only after an evaluation."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                **{PARAMS_ITEM: ocp.args.StandardSave(state.params)},
                optimizer=ocp.args.StandardSave(state.optimizer),
                position=ocp.args.JsonSave({"step": step, "data": self._data}),
            ),
            metrics=metrics,
        )

    def restore(self, like: TrainState) -> TrainState:
        """The newest checkpoint; `like` gives shapes and types.

        Raises `NotaGenError` when it is damaged, or was made with other data or another order of it.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        step = self._manager.latest_step()
        folder = self._run / STEPS_FOLDER / str(step)
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{PARAMS_ITEM: ocp.args.StandardRestore(abstract.params)},
                    optimizer=ocp.args.StandardRestore(abstract.optimizer),
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
        return TrainState(jax.numpy.asarray(step, "int32"), restored[PARAMS_ITEM], restored.optimizer)

    def close(self) -> None:
        """Wait for saves in the background and release the folder."""
        self._manager.wait_until_finished()
        self._manager.close()
