"""What a run of CLaMP-DPO is made of."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from notagen_jax.errors import NotaGenError
from notagen_jax.preference import COPYING, PLAGIARISM, PORTION
from train.clamp_dpo.selection import Filters
from train.dpo.config import DPOConfig


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn; the defaults are the official ones, but without a limit of time: the same
    seed gives the same piece on every machine."""

    top_k: int = 9
    """Likeliest characters that stay."""
    top_p: float = 0.9
    """Mass of the smallest set of them that stays."""
    temperature: float = 1.2
    """Applied last, to what is left."""
    bar_attempts: int = 1
    """How often a bar is drawn at most until its voices agree; 1 takes each bar as it comes."""
    max_chars: int = 102_400
    """A piece longer than this, its prompt included, is given up."""
    batch: int = 64
    """Pieces of a batch, of which a CPU draws several at once."""


@dataclasses.dataclass(frozen=True)
class ClampDPOConfig:
    """One run of CLaMP-DPO; every field can be set on the command line."""

    dpo: DPOConfig
    """The training of every iteration."""
    run: Path = Path("runs/clamp-dpo")
    """Folder of the run; the same command goes on where a run was stopped."""
    checkpoint: str = "mini"
    """The fine-tuned model to start from: anything that `notagen generate --checkpoint` takes."""
    clamp2: str = "judge"
    """The judge: official CLaMP 2 weights, a converted folder, or the packaged "judge"."""
    ground_truth: tuple[str, ...] = ()
    """Folders of built data sets, or of interleaved ABC in sub-folders Period_Composer_Instrumentation."""
    split: str = "train"
    """Split of the built data sets that is the ground truth."""
    iterations: int = 3
    """K; a finished run can be given more."""
    more_than: int = 10
    """Prompts with so many ground-truth pieces or fewer are left out."""
    most_prompts: int = 0
    """Only so many prompts, those with most ground-truth pieces; 0 takes all."""
    prompts: tuple[str, ...] = ()
    """Only these prompts, each as "Period; Composer; Instrumentation"."""
    samples: int = 100
    """Samples of each prompt that chosen and rejected are taken from."""
    evaluation_samples: int = 32
    """Samples of each prompt that a policy is judged by, other ones; with 0 those that the next
    iteration chooses from, which are drawn after the policy's training too: less to draw."""
    portion: float = PORTION
    """Share of the samples of a prompt that is chosen, and as much that is rejected."""
    plagiarism: float = PLAGIARISM
    """Largest cosine of a chosen piece to any ground-truth piece; without effect under a judge that puts
    most ground-truth pieces above it to one another."""
    copying: float = COPYING
    """Largest share of the notes of a chosen piece that stands in one ground-truth piece."""
    misaligned: float = 0.0
    """Share of bars that may be amiss in a chosen piece."""
    fill: bool = True
    """Where too few pieces of a prompt are aligned, choose those of the better half that nearly are."""
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    """Seed of all that is drawn."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.evaluation_samples < 0:
            raise NotaGenError("samples must be at least 1, and evaluation_samples not negative")
        if self.iterations < 0 or self.more_than < 0 or self.most_prompts < 0:
            raise NotaGenError("iterations, more_than and most_prompts must not be negative")
        if not 0 < self.portion <= 0.5 or int(self.samples * self.portion) < 1:
            raise NotaGenError(
                f"portion ({self.portion}) of samples ({self.samples}) must be at least one piece and at "
                "most half of them; draw more samples"
            )
        if self.dpo.devices.processes != 1:
            raise NotaGenError(
                "dpo.devices.processes: a run samples and judges in one process; train a single iteration "
                "on several by `python -m train.dpo` with its preferences.jsonl"
            )
        if not 0 <= self.misaligned <= 1 or not -1 <= self.plagiarism <= 1:
            raise NotaGenError("misaligned must be in [0, 1] and plagiarism in [-1, 1]")
        if not 0 <= self.copying <= 1:
            raise NotaGenError(f"copying must be in [0, 1], got {self.copying}")

    @property
    def filters(self) -> Filters:
        """What a sample must pass to be chosen."""
        return Filters(self.portion, self.plagiarism, self.copying, self.misaligned, self.fill)


def pinned(config: ClampDPOConfig) -> dict[str, Any]:
    """The settings that a run keeps from its start to its end, JSON-ready: all that its numbers depend on.

    Not the folder, which may move; the number of iterations, which may grow; what is shown meanwhile.
    """
    settings = dataclasses.asdict(config)
    for name in ("run", "iterations"):
        del settings[name]
    for name in ("log_every", "checkpoint_minutes", "tensorboard"):
        del settings["dpo"][name]
    return json.loads(json.dumps(settings))
