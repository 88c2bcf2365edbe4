"""What a CLaMP 2 training run is made of, beside the settings of every run."""

import dataclasses
from typing import Literal

from notagen_jax.clamp2.config import Clamp2Config
from notagen_jax.errors import NotaGenError
from train.config import DataConfig, RunConfig


@dataclasses.dataclass(frozen=True)
class ScoreDataConfig(DataConfig):
    """Where the scores come from; a row of a batch is one piece, cut at random where it is longer."""

    half: Literal["all", "first", "second"] = "all"
    """Which pieces are trained on: two models on other halves judge each other's pieces unseen."""
    balance: float = 0.0
    """How far rare prompts are evened up: a piece's chance goes with its prompt's pieces ** -balance."""
    hide_instruments: float = 0.0
    """How often the instrument names are taken out of the header."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.balance <= 1 or not 0 <= self.hide_instruments <= 1:
            raise NotaGenError("data.balance and data.hide_instruments must be in [0, 1]")


@dataclasses.dataclass(frozen=True)
class Clamp2RunConfig(RunConfig):
    """One run of M3's pre-training or of CLaMP 2's contrastive training."""

    model: Clamp2Config  # type: ignore[assignment]
    """Sizes and arithmetic; with `init`, the sizes of the music tower are taken from there."""
    data: ScoreDataConfig
    tokenizer: str = ""
    """Contrastive training: folder with the text tower's tokenizer, kept in the run."""
    text_init: str = ""
    """Contrastive training: folder of a pre-trained XLM-RoBERTa; empty: `init` or fresh weights."""
