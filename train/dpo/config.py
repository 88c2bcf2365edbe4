"""What a DPO training is made of."""

import dataclasses
from pathlib import Path

from notagen_jax.config import ModelConfig
from notagen_jax.dpo import BETA, LAMBDA
from notagen_jax.errors import NotaGenError
from train.config import DataConfig, OptimizerConfig, RunConfig


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
    reference_rows: int = 8
    """Pieces that one forward pass of the reference takes."""
    log_every: int = 20
    """Steps between two lines of progress."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints."""

    def __post_init__(self) -> None:
        if not self.beta > 0 or not self.lam >= 0:
            raise NotaGenError(f"beta ({self.beta}) must be above 0, and lam ({self.lam}) not negative")
        for name in ("pairs", "steps", "reference_rows"):
            if getattr(self, name) < 1:
                raise NotaGenError(f"{name} must be at least 1, got {getattr(self, name)}")

    def loop(self, model: ModelConfig, run: Path, seed: int) -> RunConfig:
        """The settings of the training loop for a policy of these sizes."""
        return RunConfig(
            model=model,
            data=DataConfig(rows=self.pairs, length=model.patch_length),
            optimizer=self.optimizer,
            run=run,
            steps=self.steps,
            accumulate=self.accumulate,
            seed=seed,
            log_every=self.log_every,
            evaluate_every=self.steps,
            checkpoint_minutes=self.checkpoint_minutes,
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
