"""The training loop of every stage: start or resume, update, evaluate, save.

A stage gives a loss, a loader and held-out batches; all else is written once, here.
"""

import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol

import jax
import numpy as np

from notagen_jax.errors import NotaGenError
from train import optimizer as optimizers
from train.checkpointing import METRIC, RunCheckpoints, Sizes
from train.config import RunConfig
from train.progress import Progress
from train.step import (
    Loss,
    LossSums,
    Params,
    TrainState,
    init_state,
    make_evaluate,
    make_update,
    replicate,
    shard,
    unreplicate,
)

HostBatch = dict[str, np.ndarray]


class Batches(Protocol):
    """An endless source of batches, each a pure function of the seed and the step."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that the order of the batches depends on."""
        ...

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[HostBatch]:
        """The batch that update `step` (from 0) takes, the one after it, and so on without end.

        Of `processes` hosts, host `process` gets its contiguous share of each batch's rows.
        """
        ...

    def names(self, step: int) -> list[str]:
        """The pieces in the whole batch of update `step`, for a person to find them."""
        ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one stage of training gives to the loop."""

    config: Sizes
    """Sizes of the model, written to the run folder."""
    params: Params
    """First values of the parameters that the stage trains."""
    frozen: Params
    """Arrays that the loss reads and nobody changes: a base under adapters, a reference; {} if none."""
    loss: Loss
    """Sums over the rows of a batch; see `train.step`."""
    train: Batches
    held_out: Mapping[str, Sequence[HostBatch]]
    """Held-out batches by the name of their source, in the form of the training batches."""


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag, so that the loop can save before it ends."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        # A second signal ends the process at once, as it would have without this.
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def evaluate(
    evaluate_batch: Any, params: Params, frozen: Params, held_out: Mapping[str, Sequence[HostBatch]]
) -> dict[str, float]:
    """Mean held-out loss of every source, and over all as `held_out`; the loss's metrics as SOURCE/NAME.

    Empty when there are no held-out pieces.
    """
    if not held_out:
        return {}
    means: dict[str, float] = {}
    everything: list[LossSums] = []
    for name, batches in held_out.items():
        sums = [jax.device_get(evaluate_batch(params, frozen, shard(batch))) for batch in batches]
        everything += sums
        means |= _means(name, sums)
    return means | _means(METRIC, everything)


def _means(name: str, sums: Sequence[LossSums]) -> dict[str, float]:
    """Loss and metrics of some batches together, by token."""
    total, weight, metrics = jax.tree.map(lambda *values: float(sum(values)), *sums)
    scale = 1.0 / max(weight, 1.0)
    return {name: total * scale, **{f"{name}/{key}": value * scale for key, value in metrics.items()}}


def run(stage: Stage, config: RunConfig) -> dict[str, float]:
    """Train a stage to its last step and return the last held-out losses (see `evaluate`).

    A run folder with checkpoints goes on from the newest one: parameters, optimizer, batches and
    dropout are those of an uninterrupted run. SIGTERM or SIGINT saves and returns. Raises
    `NotaGenError` when the rows do not divide over the devices or the loss is not finite.
    """
    devices = jax.local_device_count()
    if config.data.rows % (devices * config.accumulate):
        raise NotaGenError(
            f"data.rows ({config.data.rows}) must be a multiple of devices × accumulate "
            f"({devices} × {config.accumulate})"
        )
    optimizer = optimizers.make(config.optimizer, config.steps)
    update = make_update(stage.loss, optimizer, config.seed, config.accumulate)
    evaluate_batch = make_evaluate(stage.loss)

    checkpoints = RunCheckpoints(config.run, stage.config, stage.train.fingerprint)
    state = init_state(stage.params, optimizer)
    if checkpoints.last_step is not None:
        state = checkpoints.restore(state)
    progress = Progress(config.run, int(state.step), config.steps)
    progress.say(
        f"{config.run}: step {int(state.step)} of {config.steps}, "
        f"{stage.config.parameters / 1e6:.1f}M parameters, {devices} {jax.devices()[0].platform} device(s)"
    )
    try:
        with StopRequest() as stop:
            return _updates(stage, config, update, evaluate_batch, checkpoints, state, progress, stop)
    finally:
        checkpoints.close()
        progress.close()


def _updates(
    stage: Stage,
    config: RunConfig,
    update: Any,
    evaluate_batch: Any,
    checkpoints: RunCheckpoints,
    state: TrainState,
    progress: Progress,
    stop: StopRequest,
) -> dict[str, float]:
    step = int(state.step)
    state, frozen = replicate(state), replicate(stage.frozen)
    batches = stage.train.batches(step)
    losses: dict[str, float] = {}
    previous: Mapping[str, jax.Array] | None = None
    meter = Throughput()
    saved_at = time.monotonic()
    while step < config.steps and not stop.requested:
        batch = next(batches)
        state, metrics = update(state, frozen, shard(batch))
        step += 1
        # Metrics are read one step late: the device never waits for the host, and the host never
        # runs further ahead than one step, so that a request to stop is met at once.
        if previous is not None:
            jax.block_until_ready(previous)
            if (step - 1) % config.log_every == 0:
                _report(step - 1, previous, meter.rate(), progress)
        meter.add(batch)
        previous = metrics
        if step % config.evaluate_every == 0 or step == config.steps:
            losses = evaluate(evaluate_batch, state.params, frozen, stage.held_out)
            shown = {name: round(value / math.log(2), 4) for name, value in losses.items()}
            progress.record("held_out", step, **shown)
            progress.say(f"step {step}/{config.steps}  held out, bits/char: {shown}")
            _require_finite(step, float(metrics["loss"]) + losses.get(METRIC, 0.0))
            checkpoints.save(unreplicate(state), losses or None)
            saved_at = time.monotonic()
            meter = Throughput()
        elif time.monotonic() - saved_at > 60 * config.checkpoint_minutes:
            _require_finite(step, float(metrics["loss"]))
            checkpoints.save(unreplicate(state), None)
            saved_at = time.monotonic()
    if stop.requested:
        if previous is not None:
            _require_finite(step, float(previous["loss"]))
        checkpoints.save(unreplicate(state), None)
        progress.say(f"stopped at step {step}; the same command goes on from here")
    return losses


class Throughput:
    """Patches a second since it was last asked."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._patches = 0

    def add(self, batch: HostBatch) -> None:
        """Count the patches of a batch that are not padding."""
        self._patches += int(np.count_nonzero(batch["segments"])) if "segments" in batch else 0

    def rate(self) -> float:
        """Patches a second since the last call, which starts the next count."""
        now = time.monotonic()
        patches, seconds = self._patches, now - self._since
        self._since, self._patches = now, 0
        return patches / max(seconds, 1e-9)


def _report(step: int, metrics: Mapping[str, jax.Array], rate: float, progress: Progress) -> None:
    """One line of progress; raises `NotaGenError` on a loss that is not finite."""
    values = {name: float(value) for name, value in metrics.items()}
    _require_finite(step, values["loss"])
    values["bits_per_char"] = values["loss"] / math.log(2)
    progress.training(step, values, rate)


def _require_finite(step: int, loss: float) -> None:
    """Stop before a checkpoint of broken parameters can replace a good one."""
    if not math.isfinite(loss):
        raise NotaGenError(
            f"step {step}: the loss is {loss}; lower optimizer.learning_rate or set optimizer.clip, "
            "then start again from the last checkpoint by the same command"
        )
