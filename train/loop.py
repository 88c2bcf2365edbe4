"""The training loop of every stage: start or resume, update, evaluate, save.

A stage gives a loss, its batches and held-out batches; all else is written once, here. A run is the
same program in each of its processes; what one of them decides (to stop, to save) travels with the
next update, so that all do it at the same step.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import jax

from notagen_jax.checkpoints.training import METRIC
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from train import optimizer as optimizers
from train.checkpointing import RunCheckpoints, Sizes
from train.config import LoopConfig
from train.devices import Devices, Evaluate, HostBatch
from train.progress import Meter, Progress
from train.step import Loss, LossSums, Params
from train.stopping import StopRequest


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
    """First values of the parameters that the stage trains; shapes do for a run that goes on."""
    frozen: Params
    """Arrays that the loss reads and nobody changes: a base under adapters, a reference; {} if none."""
    loss: Loss
    """Sums over the rows of a batch; see `train.step`."""
    train: Batches
    held_out: Mapping[str, Sequence[HostBatch]]
    """Held-out batches by the name of their source, in the form of the training batches."""
    flops: Callable[[HostBatch], float] | None = None
    """Arithmetic of an update on a batch, for the share of the devices' peak (MFU)."""
    samples: Callable[[int, Params, Params, Callable[[], bool]], dict[str, float]] | None = None
    """(step, params, frozen, stopped) → figures of pieces sampled at an evaluation, by one process.

    Where `stopped()` turns true it returns at once.
    """


def run(stage: Stage, config: LoopConfig) -> dict[str, float]:
    """Train a stage to its last step and return the last held-out figures (see `evaluate`).

    A run folder with checkpoints goes on from the newest whole one: parameters, optimizer, batches
    and dropout are those of an uninterrupted run, on whatever devices. SIGTERM or SIGINT saves and
    returns. Raises `NotaGenError` when the rows do not divide over the devices, a checkpoint cannot
    be read or written, or the loss or its gradient is not finite.
    """
    with StopRequest() as stop:
        return _run(stage, config, stop)


def _run(stage: Stage, config: LoopConfig, stop: StopRequest) -> dict[str, float]:
    devices = Devices(config.devices)
    optimizer = optimizers.make(config.optimizer, config.steps)
    shapes = devices.shapes(stage.params, optimizer)
    update = devices.update(stage.loss, optimizer, config.seed, config.accumulate, shapes)
    evaluate_batch = devices.evaluate(stage.loss)

    checkpoints = RunCheckpoints(config.run, stage.config, stage.train.fingerprint)
    if checkpoints.last_step is None:
        state = devices.start(stage.params, optimizer)
    else:
        state = checkpoints.restore(shapes)
    frozen = devices.place(stage.frozen)
    step = int(state.step)
    batches = stage.train.batches(step, devices.process, devices.processes)

    meter = Meter(devices.processes, stage.flops, stage.config.dtype)
    progress = Progress(config, step, main=devices.process == 0)
    progress.say(_summary(stage, config, devices, step, shapes.params, checkpoints.best))
    held_out: dict[str, float] = {}

    def told(step: int, metrics: Mapping[str, jax.Array]) -> dict[str, float]:
        """What update `step` says of itself, once the devices have done it."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise _not_finite(stage, config, step, values, devices.process == 0)
        if step % config.log_every == 0:
            progress.training(step, values, meter)
        return values

    with progress, checkpoints:
        saved_at = time.monotonic()
        unread: Mapping[str, jax.Array] | None = None
        stopping = False
        while step < config.steps and not stopping:
            with meter.waiting():
                batch = next(batches)
            due = devices.process == 0 and time.monotonic() - saved_at > 60 * config.checkpoint_minutes
            wishes = devices.wishes(stop=stop.requested, save=due)
            state, metrics = update(state, frozen, devices.rows(batch, config.accumulate), wishes)
            step += 1
            # Metrics are read one step late: the device never waits for the host, and the host
            # never runs further ahead than one step, so that a request to stop is met at once.
            late = told(step - 1, unread) if unread is not None else {"stop": 0.0, "save": 0.0}
            unread = metrics
            meter.add(batch)
            evaluating = step % config.evaluate_every == 0 or step == config.steps
            if not (evaluating or late["stop"] or late["save"]):
                continue

            # Read before it is saved: no checkpoint of broken parameters may replace a good one.
            now = told(step, metrics)
            unread = None
            stopping = step < config.steps and late["stop"] + now["stop"] > 0
            figures: dict[str, float] = {}
            if evaluating and not stopping:
                figures = evaluate(evaluate_batch, devices, state.params, frozen, stage.held_out)
                held_out = figures
                progress.evaluation(step, figures)
            checkpoints.save(step, devices.everywhere(state), figures or None)
            saved_at = time.monotonic()
            if evaluating and not stopping and stage.samples is not None:
                params, base = devices.here(state.params), devices.here(frozen)
                if devices.process == 0:
                    progress.samples(step, stage.samples(step, params, base, lambda: stop.requested))
            meter.restart()
        if stopping:
            progress.say(f"stopped at step {step}; the same command goes on from here")
    return held_out


def evaluate(
    evaluate_batch: Evaluate,
    devices: Devices,
    params: Params,
    frozen: Params,
    held_out: Mapping[str, Sequence[HostBatch]],
) -> dict[str, float]:
    """Mean held-out loss of every source, and over all as `held_out`; the loss's metrics as SOURCE/NAME.

    Empty when there are no held-out pieces.
    """
    means: dict[str, float] = {}
    everything: list[LossSums] = []
    for name, batches in held_out.items():
        sums = [
            jax.device_get(evaluate_batch(params, frozen, devices.rows(devices.share(batch))))
            for batch in batches
        ]
        everything += sums
        means |= _means(name, sums)
    return means | _means(METRIC, everything) if everything else {}


def _means(name: str, sums: Sequence[LossSums]) -> dict[str, float]:
    """Loss and metrics of some batches together, by weight."""
    total, weight, metrics = jax.tree.map(lambda *values: float(sum(values)), *sums)
    scale = 1.0 / max(weight, 1.0)
    return {name: total * scale, **{f"{name}/{key}": value * scale for key, value in metrics.items()}}


def _summary(
    stage: Stage,
    config: LoopConfig,
    devices: Devices,
    step: int,
    params: Params,
    best: tuple[int, float] | None,
) -> str:
    """The first line of a run."""
    trained = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    model = stage.config.parameters
    of = "" if trained == model else f" beside a model of {model / 1e6:.1f}M"
    kept = "" if best is None else f", best held-out loss {best[1]:.4f} at step {best[0]}"
    return (
        f"{config.run}: step {step} of {config.steps}, {trained / 1e6:.1f}M parameters{of}, {devices}{kept}"
    )


def _not_finite(
    stage: Stage, config: LoopConfig, step: int, values: Mapping[str, float], main: bool
) -> NotaGenError:
    """The error of a broken update, its pieces written to the run folder for a person to look at."""
    loss, norm = values["loss"], values["grad_norm"]
    path = config.run / f"not-finite-{step}.json"
    if main:
        pieces = stage.train.names(step - 1)
        content = {"step": step, "loss": str(loss), "grad_norm": str(norm), "pieces": pieces}
        write_atomic(path, json.dumps(content, indent=1) + "\n")
    broken = f"the norm of the gradient is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
    return NotaGenError(
        f"step {step}: {broken}; {path} names the pieces of its batch. Lower "
        "optimizer.learning_rate, set optimizer.clip, or mend the pieces; the same command goes on from "
        "the last checkpoint"
    )
