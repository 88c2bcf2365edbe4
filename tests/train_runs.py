"""Training runs at tiny size on made-up pieces, for the tests of the loop, its devices and its faults."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from notagen_jax.config import ModelConfig
from tests.test_train_data import corpus
from tests.tiny_composer import random_params
from train import loop
from train.config import DataConfig, OptimizerConfig, RunConfig
from train.data import Loader, held_out_batches
from train.likelihood import likelihood_loss

MODEL = ModelConfig(64, 1, 1, 64)


def configuration(run: Path, **changes: object) -> RunConfig:
    """A run of six steps with dropout on; runs that change no size or rate share one compiled update."""
    settings = dict(
        model=MODEL,
        data=DataConfig(rows=1, length=64),
        optimizer=OptimizerConfig(5e-3, warmup_steps=2, clip=1.0),
        run=run,
        steps=6,
        log_every=1,
        evaluate_every=3,
    )
    return RunConfig(**{**settings, **changes})


class Stopping:
    """Batches that send a signal to this process when one of them is taken."""

    def __init__(self, batches: loop.Batches, at: int, number: int = signal.SIGTERM) -> None:
        self._batches = batches
        self.fingerprint = batches.fingerprint
        self._at = at
        self._number = number

    def names(self, step: int) -> list[str]:
        return self._batches.names(step)

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        for count, batch in enumerate(self._batches.batches(step, process, processes), step + 1):
            if count == self._at:
                os.kill(os.getpid(), self._number)
            yield batch


def stage(config: RunConfig, stop_at: int = 0, seed: int = 0) -> loop.Stage:
    """The likelihood stage on made-up pieces; `stop_at` asks for a stop when that step's batch is taken."""
    train: loop.Batches = Loader([corpus(6)], config.data, config.seed)
    return loop.Stage(
        config=config.model,
        params=random_params(config.model, seed),
        frozen={},
        loss=likelihood_loss(config.model),
        train=Stopping(train, stop_at) if stop_at else train,
        held_out={"made-up": held_out_batches(corpus(2), config.data, 8)},
    )
