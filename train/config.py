"""What a training run is made of: one frozen dataclass for each concern."""

import dataclasses
from pathlib import Path
from typing import Literal

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import LoraConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the pieces come from and how they are cut into batches."""

    sources: tuple[str, ...] = ()
    """Folders of built data sets (as `python -m tfds_builders.build` prints them), or exported files."""
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
    longest: int = 0
    """Pieces of more patches than this, in the longest key they may be drawn in, are left out, held-out
    ones as well; 0 keeps all."""
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
        if self.workers < 0 or self.longest < 0:
            raise NotaGenError("data.workers and data.longest must not be negative")


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
class DeviceConfig:
    """Which devices a run uses, and how the parameters lie on them."""

    kind: Literal["pmap", "mesh"] = "pmap"
    """pmap: each device holds all parameters and a share of the rows; mesh: parameters and optimizer state
    are split as well."""
    fsdp: int = 0
    """With mesh: devices that share one copy of the parameters; 0: all of them."""
    split_from: int = 2**20
    """With mesh: a parameter of fewer elements is kept whole; to split it would save little."""
    processes: int = 1
    """Processes of the run, one on each host; 0 finds them (Cloud TPU, Slurm, Open MPI)."""
    process: int = 0
    """Number of this process, from 0; where they are not found."""
    coordinator: str = ""
    """HOST:PORT of process 0, which all processes reach; where it is not found."""

    def __post_init__(self) -> None:
        if self.fsdp < 0 or self.processes < 0:
            raise NotaGenError("devices.fsdp and devices.processes must not be negative")
        if self.fsdp and self.kind == "pmap":
            raise NotaGenError("devices.fsdp splits the parameters, which needs --devices.kind mesh")
        if self.processes > 1 and not self.coordinator:
            raise NotaGenError(
                f"devices.processes is {self.processes}: give --devices.coordinator HOST:PORT of process 0 "
                "and --devices.process, or --devices.processes 0 where a cluster tells them"
            )
        if not 0 <= self.process < max(self.processes, 1):
            raise NotaGenError(f"devices.process must be from 0 to devices.processes - 1, got {self.process}")


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Pieces that every evaluation samples, to see whether they parse and align."""

    count: int = 0
    """How many, in turn over the prompts of the training pieces; 0 samples none."""
    patches: int = 512
    """A piece that has not ended by then counts as it is."""
    minutes: float = 5.0
    """Most time for all of them together."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.patches < 1 or not self.minutes > 0:
            raise NotaGenError(
                "samples.count must not be negative, samples.patches at least 1, samples.minutes above 0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What the loop needs of any stage; every field can be set on the command line."""

    optimizer: OptimizerConfig = OptimizerConfig()
    devices: DeviceConfig = DeviceConfig()
    run: Path = Path("runs/notagen")
    """Folder of this run; a run that was stopped goes on from its last checkpoint here."""
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
    checkpoint_minutes: float = 10.0
    """Minutes between two rolling checkpoints; each evaluation saves one as well."""
    tensorboard: bool = True
    """Whether to write scalars for TensorBoard to the run folder."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise NotaGenError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.checkpoint_minutes > 0:
            raise NotaGenError(f"checkpoint_minutes must be above 0, got {self.checkpoint_minutes}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(LoopConfig):
    """One run of a likelihood stage: pre-training, post-training or fine-tuning."""

    model: ModelConfig
    """Sizes and arithmetic; with `init`, only the arithmetic is taken from here."""
    data: DataConfig
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    samples: SampleConfig = SampleConfig()
    init: str = ""
    """Checkpoint to start from (any form that `notagen generate --checkpoint` takes); empty: scratch."""
    evaluate_rows: int = 64
    """Most rows of held-out pieces used for each source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_rows < 1:
            raise NotaGenError(f"evaluate_rows must be at least 1, got {self.evaluate_rows}")
        if self.data.rows % self.accumulate:
            raise NotaGenError(
                f"data.rows ({self.data.rows}) must be a multiple of accumulate ({self.accumulate})"
            )
