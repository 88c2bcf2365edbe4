"""What a DPO training is made of."""

import dataclasses
from pathlib import Path

from notagen_jax.config import ModelConfig
from notagen_jax.dpo import BETA, LAMBDA
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import LoraConfig
from train.config import DeviceConfig, LoopConfig, OptimizerConfig


@dataclasses.dataclass(frozen=True)
class DPOConfig:
    """The training of one policy on preference data; the defaults are the paper's."""

    model: ModelConfig
    """Arithmetic of the policy and the reference; the sizes are the checkpoint's. Dropout would lower
    the policy's likelihood of every piece against the reference, which has none, and the penalty of
    DPO-Positive would see nothing else."""
    beta: float = BETA
    """How much a change of the log-ratios counts."""
    lam: float = LAMBDA
    """λ of DPO-Positive; 0 is DPO."""
    pairs: int = 1
    """Pairs of a batch, over all devices."""
    steps: int = 10_000
    """Updates."""
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-6, warmup_steps=0, clip=1.0)
    )
    """AdamW at a constant rate, the gradient's norm clipped."""
    accumulate: int = 1
    """Micro-batches whose gradients make one update."""
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    devices: DeviceConfig = dataclasses.field(default_factory=DeviceConfig)
    reference_rows: int = 8
    """Pieces that one forward pass of the reference takes."""
    log_every: int = 20
    """Steps between two lines of progress."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints."""
    tensorboard: bool = True
    """Whether to write scalars for TensorBoard to the run folder."""

    def __post_init__(self) -> None:
        if not self.beta > 0 or not self.lam >= 0:
            raise NotaGenError(f"beta ({self.beta}) must be above 0, and lam ({self.lam}) not negative")
        for name in ("pairs", "steps", "accumulate", "reference_rows"):
            if getattr(self, name) < 1:
                raise NotaGenError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.pairs % self.accumulate:
            raise NotaGenError(f"pairs ({self.pairs}) must be a multiple of accumulate ({self.accumulate})")

    def loop(self, run: Path) -> LoopConfig:
        """The settings of the training loop in the folder `run`.

        Its seed, of dropout alone, is always the same: it is part of the compiled program, which the
        iterations of CLaMP-DPO share.
        """
        return LoopConfig(
            optimizer=self.optimizer,
            devices=self.devices,
            run=run,
            steps=self.steps,
            accumulate=self.accumulate,
            seed=0,
            log_every=self.log_every,
            evaluate_every=self.steps,
            checkpoint_minutes=self.checkpoint_minutes,
            tensorboard=self.tensorboard,
        )


@dataclasses.dataclass(frozen=True)
class DPORun:
    """One DPO training by itself: `python -m train.dpo`."""

    dpo: DPOConfig
    preferences: Path | None = None
    """A `preferences.jsonl`: one JSON object of prompt, name, verdict, text a line."""
    init: str = ""
    """The policy to start from, which is the frozen reference too."""
    run: Path = Path("runs/dpo")
    """Folder of this run; a run that was stopped goes on from its last checkpoint here."""
    seed: int = 0
    """Seed of the pairs and of the windows of long pieces."""
