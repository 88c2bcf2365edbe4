"""What a training run is made of: one frozen dataclass for each concern."""

import dataclasses
from pathlib import Path
from typing import Literal

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the pieces come from and how they are cut into batches."""

    sources: tuple[str, ...] = ()
    """Folders of built data sets (as `python -m tfds_builders.build` prints them)."""
    weights: tuple[int, ...] = ()
    """How often an epoch goes through each source; empty means once each."""
    keys: Literal["uniform", "near", "original"] = "uniform"
    """Key of a piece: any of 15, 0–3 semitones around its own by 4,3,2,1 /16, or its own."""
    prompts: bool = False
    """Whether the text begins with the period, composer and instrumentation."""
    rows: int = 4
    """Rows of a batch, over all devices."""
    length: int = 1024
    """Patches of a row, at most the model's window."""
    packing: Literal["auto", "on", "off"] = "auto"
    """Whether short pieces share a row; auto: when that saves more than 15 % of the rows."""
    workers: int = 0
    """Processes that make batches; 0 leaves it to a thread of this one."""

    def __post_init__(self) -> None:
        if self.sources and self.weights and len(self.weights) != len(self.sources):
            raise NotaGenError(
                f"data.weights has {len(self.weights)} entries for {len(self.sources)} sources; give one each"
            )
        if any(weight < 1 for weight in self.weights):
            raise NotaGenError("data.weights must be whole numbers from 1")
        if self.rows < 1 or self.length < 2:
            raise NotaGenError("data.rows must be at least 1 and data.length at least 2")
        if self.workers < 0:
            raise NotaGenError("data.workers must not be negative")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with PyTorch's defaults, as the official code uses it."""

    learning_rate: float = 1e-4
    """Rate after the warm-up."""
    warmup_steps: int = 1000
    """Steps of linear rise to the rate; 0 turns it off."""
    decay: Literal["constant", "cosine"] = "constant"
    """The rate after the warm-up: constant, or a cosine to a tenth at the last step."""
    weight_decay: float = 0.01
    """Decoupled, on every parameter, times the rate."""
    beta2: float = 0.999
    """Decay of the second moment."""
    clip: float = 0.0
    """Largest global norm of the gradients; 0 leaves them as they are."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise NotaGenError(f"optimizer.learning_rate must be above 0, got {self.learning_rate}")
        if self.warmup_steps < 0 or not self.weight_decay >= 0 or not self.clip >= 0:
            raise NotaGenError("optimizer.warmup_steps, weight_decay and clip must not be negative")
        if not 0 <= self.beta2 < 1:
            raise NotaGenError(f"optimizer.beta2 must be in [0, 1), got {self.beta2}")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run; every field can be set on the command line."""

    model: ModelConfig
    """Sizes and arithmetic; with `init`, only the arithmetic is taken from here."""
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    run: Path = Path("runs/notagen")
    """Folder of this run; a run that was stopped goes on from its last checkpoint here."""
    init: str = ""
    """Checkpoint to start from (any form that `notagen generate --checkpoint` takes); empty: scratch."""
    steps: int = 100_000
    """Updates of the whole run."""
    accumulate: int = 1
    """Micro-batches whose gradients make one update."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, keys, windows and dropout."""
    log_every: int = 20
    """Steps between two lines of progress."""
    evaluate_every: int = 1000
    """Steps between two evaluations on the held-out pieces."""
    evaluate_rows: int = 64
    """Most rows of held-out pieces used for each source."""
    checkpoint_minutes: float = 10.0
    """Minutes between two rolling checkpoints; each evaluation saves one as well."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "evaluate_every", "evaluate_rows"):
            if getattr(self, name) < 1:
                raise NotaGenError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.checkpoint_minutes > 0:
            raise NotaGenError(f"checkpoint_minutes must be above 0, got {self.checkpoint_minutes}")
        if self.data.rows % self.accumulate:
            raise NotaGenError(
                f"data.rows ({self.data.rows}) must be a multiple of accumulate ({self.accumulate})"
            )
