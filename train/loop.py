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

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from train import optimizer as optimizers
from train.checkpointing import METRIC, RunCheckpoints
from train.config import RunConfig
from train.progress import Progress
from train.step import (
    LossSum,
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
    """An endless source of batches that can start at any position it has given out."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that the order of the batches depends on."""
        ...

    def batches(self, epoch: int = 0, batch: int = 0) -> Iterator[tuple[HostBatch, dict[str, int]]]:
        """Batches from a position on, each with the position after it."""
        ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one stage of training gives to the loop."""

    model: ModelConfig
    params: Params
    loss: LossSum
    """Sums over the rows of a batch; see `train.step`."""
    train: Batches
    held_out: Mapping[str, Sequence[HostBatch]]
    """Batches of held-out pieces by the name of their source."""


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
    evaluate_batch: Any, params: Params, held_out: Mapping[str, Sequence[HostBatch]]
) -> dict[str, float]:
    """Mean held-out loss (nats per character) of every source, and over all as `held_out`.

    Empty when there are no held-out pieces.
    """
    if not held_out:
        return {}
    losses: dict[str, float] = {}
    totals = []
    for name, batches in held_out.items():
        sums = [evaluate_batch(params, shard(batch)) for batch in batches]
        total, weight = (float(sum(values)) for values in zip(*sums, strict=True))
        totals.append((total, weight))
        losses[name] = total / max(weight, 1.0)
    losses[METRIC] = sum(t for t, _ in totals) / max(sum(w for _, w in totals), 1.0)
    return losses


def run(stage: Stage, config: RunConfig) -> dict[str, float]:
    """Train a stage to its last step and return the last held-out losses (nats per character).

    A run folder with checkpoints goes on from the newest one: parameters, optimizer, data position
    and dropout are those of an uninterrupted run. SIGTERM or SIGINT saves and returns. Raises
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

    checkpoints = RunCheckpoints(config.run, stage.model, stage.train.fingerprint)
    state = init_state(stage.params, optimizer)
    position: dict[str, int] = {"epoch": 0, "batch": 0}
    if checkpoints.last_step is not None:
        state, position = checkpoints.restore(state)
    progress = Progress(config.run, int(state.step), config.steps)
    progress.say(
        f"{config.run}: step {int(state.step)} of {config.steps}, "
        f"{stage.model.parameters / 1e6:.1f}M parameters, {devices} {jax.devices()[0].platform} device(s), "
        f"epoch {position['epoch']} batch {position['batch']}"
    )
    try:
        with StopRequest() as stop:
            return _updates(
                stage, config, update, evaluate_batch, checkpoints, state, position, progress, stop
            )
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
    position: dict[str, int],
    progress: Progress,
    stop: StopRequest,
) -> dict[str, float]:
    step = int(state.step)
    state = replicate(state)
    batches = stage.train.batches(**position)
    losses: dict[str, float] = {}
    previous: Mapping[str, jax.Array] | None = None
    meter = Throughput()
    saved_at = time.monotonic()
    while step < config.steps and not stop.requested:
        batch, position = next(batches)
        state, metrics = update(state, shard(batch))
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
            losses = evaluate(evaluate_batch, state.params, stage.held_out)
            shown = {name: round(value / math.log(2), 4) for name, value in losses.items()}
            progress.record("held_out", step, **shown)
            progress.say(f"step {step}/{config.steps}  held out, bits/char: {shown}")
            _require_finite(step, float(metrics["loss"]) + losses.get(METRIC, 0.0))
            checkpoints.save(unreplicate(state), position, losses or None)
            saved_at = time.monotonic()
            meter = Throughput()
        elif time.monotonic() - saved_at > 60 * config.checkpoint_minutes:
            _require_finite(step, float(metrics["loss"]))
            checkpoints.save(unreplicate(state), position, None)
            saved_at = time.monotonic()
    if stop.requested:
        if previous is not None:
            _require_finite(step, float(previous["loss"]))
        checkpoints.save(unreplicate(state), position, None)
        progress.say(f"stopped at step {step}; the same command goes on from here")
    return losses


class Throughput:
    """Patches a second since it was last asked."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._patches = 0

    def add(self, batch: HostBatch) -> None:
        """Count the patches of a batch that are not padding."""
        self._patches += int(np.count_nonzero(batch["segments"]))

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
