"""What a run shows: lines of progress, the log file and TensorBoard's scalars."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.flops import device_peak
from train import optimizer as optimizers
from train.config import LoopConfig
from train.devices import HostBatch
from train.tensorboard import Scalars


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(int(seconds), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Meter:
    """Counts the work of this process's updates and the time that they took."""

    def __init__(self, processes: int, flops: Callable[[HostBatch], float] | None, dtype: str) -> None:
        """`flops` counts the arithmetic of an update on a batch, which is done in `dtype`."""
        self._processes = processes
        self._flops = flops
        # The devices of a CPU share its cores. There the peak is measured, which in bfloat16 takes long.
        device = jax.local_devices()[0]
        count = 1 if device.platform == "cpu" else jax.local_device_count()
        known = flops is not None and (device.platform != "cpu" or dtype == "float32")
        self._peak = device_peak(device, dtype).flops * count if known else None
        self.restart()

    def restart(self) -> None:
        """Count from here: what came before was no training."""
        self._since = time.monotonic()
        self._rows = self._patches = 0
        self._operations = self._waited = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block's time as waiting for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def add(self, batch: HostBatch) -> None:
        """Count an update on a batch; padding is no work."""
        self._rows += len(next(iter(batch.values())))
        if "segments" in batch:
            self._patches += int(np.count_nonzero(batch["segments"]))
        if self._flops is not None:
            self._operations += self._flops(batch)

    def rates(self) -> dict[str, float]:
        """Figures since the last call, which starts the next count.

        rows and patches a second over all processes; data_wait, the share of the time in which the
        host waited for a batch; flops a second and device, and mfu, their share of the device's peak (of a
        CPU: as measured when the run began), where both are known.
        """
        seconds = max(time.monotonic() - self._since, 1e-9)
        figures = {
            "rows_per_second": self._rows * self._processes / seconds,
            "patches_per_second": self._patches * self._processes / seconds,
            "data_wait": self._waited / seconds,
        }
        if self._operations:
            figures["flops_per_second"] = self._operations / seconds / jax.local_device_count()
            if self._peak is not None:
                figures["mfu"] = self._operations / seconds / self._peak
        self.restart()
        return figures


class Progress:
    """Prints to standard error, appends to `log.jsonl` and writes TensorBoard's files in the run folder.

    Only the main process of a run shows anything.
    """

    def __init__(self, config: LoopConfig, first_step: int, main: bool = True) -> None:
        """Raises `NotaGenError` when TensorBoard's writer is wanted and not installed."""
        self._run = config.run
        self._steps = config.steps
        self._first = first_step
        self._start = time.monotonic()
        # All of them now: to ask the schedule later would wait for the updates that the device is at.
        rate = optimizers.learning_rate(config.optimizer, config.steps)
        self._rates = np.asarray(jax.jit(jax.vmap(lambda n: jnp.float32(rate(n))))(jnp.arange(config.steps)))
        self._main = main
        self._log: TextIO | None = None
        self._scalars: Scalars | None = None
        if main:
            with self._writing():
                config.run.mkdir(parents=True, exist_ok=True)
                self._log = (config.run / "log.jsonl").open("a", encoding="utf-8")
                if config.tensorboard:
                    self._scalars = Scalars(config.run / "tensorboard", first_step)

    def training(self, step: int, values: dict[str, float], meter: Meter) -> None:
        """One line on update `step`: its metrics, throughput and ETA."""
        rates = meter.rates()
        seconds = (time.monotonic() - self._start) / max(step - self._first, 1)
        values = {name: value for name, value in values.items() if name not in ("stop", "save")}
        values |= {"learning_rate": float(self._rates[step - 1]), **rates}
        self._record("train", step, values)
        speed = f"{rates['patches_per_second']:.0f} patches/s"
        if not rates["patches_per_second"]:
            speed = f"{rates['rows_per_second']:.1f} rows/s"
        if "mfu" in rates:
            speed += f"  MFU {rates['mfu']:.1%}"
        own = {name: value for name, value in values.items() if name not in _COMMON and name not in rates}
        self.say(
            f"step {step}/{self._steps}  loss {values['loss']:.4f}{_listed(own)}  "
            f"grad {values['grad_norm']:.3f}  {speed}  ETA {clock(seconds * (self._steps - step))}"
        )

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """One line on an evaluation after update `step`."""
        self._record("held_out", step, values)
        self.say(f"step {step}/{self._steps}  evaluation:{_listed(values) or '  nothing held out'}")

    def samples(self, step: int, values: dict[str, float]) -> None:
        """One line on the pieces sampled after update `step`; none where sampling was cut short."""
        if values:
            self._record("samples", step, values)
            self.say(
                f"step {step}/{self._steps}  of the samples:"
                + "".join(f"  {n} {v:.0%}" for n, v in values.items())
            )

    def say(self, text: str) -> None:
        """One line on standard error."""
        if self._main:
            print(text, file=sys.stderr, flush=True)

    def _record(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One JSON line (kind, step, seconds since this process began, values) and TensorBoard's scalars."""
        with self._writing():
            if self._log is not None:
                seconds = round(time.monotonic() - self._start, 3)
                self._log.write(json.dumps({"kind": kind, "step": step, "seconds": seconds, **values}) + "\n")
                self._log.flush()
            if self._scalars is not None:
                self._scalars.write(step, {f"{kind}/{name}": value for name, value in values.items()})

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotaGenError(
                f"{self._run}: cannot write the log ({error.strerror or error}); make room there or choose "
                "another --run folder; the same command goes on from the last checkpoint"
            ) from error

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # What could not be written before cannot be written now, and has been said.
        with contextlib.suppress(OSError) if kind is not None else self._writing():
            if self._log is not None:
                self._log.close()
            if self._scalars is not None:
                self._scalars.close()


_COMMON = ("loss", "weight", "grad_norm", "update_norm", "param_norm", "learning_rate")
"""Metrics of every stage, which the line of progress shows in its own way or leaves to the log."""


def _listed(values: dict[str, float]) -> str:
    return "".join(f"  {name} {value:.4f}" for name, value in values.items())


def say_to_stderr(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)
