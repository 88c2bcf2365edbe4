"""What a sampling run is asked for, what it reports and what it returns."""

import dataclasses
from typing import Any

from notagen_jax.checkpoints import Checkpoint
from notagen_jax.checkpoints.advice import ADVICE_FILE, ADVICE_REMEDY
from notagen_jax.errors import NotaGenError


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """How characters are drawn and when a piece is given up; the defaults are the official ones."""

    top_k: int = 9
    """Likeliest characters that stay."""
    top_p: float = 0.9
    """Mass of the smallest set of them that stays; 1 keeps all."""
    temperature: float = 1.2
    """Applied last, to what is left: above 1 evens it out."""
    bar_attempts: int = 1
    """How often a bar is drawn at most until its voices agree; 1 takes each bar as it comes. Each bar
    that stands with a fault halves it for the bars behind, each sound one doubles it again."""
    max_chars: int = 102_400
    """A piece longer than this, its prompt included, is given up."""
    max_seconds: float = 1200.0
    """A piece that takes longer than this by the clock, which all pieces under way share, is given up."""
    max_patches: int | None = None
    """Patches to draw at most; None sets no limit."""

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= 128:
            raise NotaGenError(f"top_k must be 1 to 128, got {self.top_k}; 128 keeps every character")
        if not 0 < self.top_p <= 1:
            raise NotaGenError(f"top_p must be above 0 and at most 1, got {self.top_p}; 1 keeps everything")
        if not 0 < self.temperature <= 1000:
            raise NotaGenError(
                f"temperature must be above 0 and at most 1000, got {self.temperature}; "
                "top_k 1 is without chance"
            )
        if not 1 <= self.bar_attempts <= 1000:
            raise NotaGenError(
                f"bar_attempts must be 1 to 1000, got {self.bar_attempts}; 1 draws no bar again"
            )
        if self.max_chars < 1 or not self.max_seconds > 0:
            raise NotaGenError("max_chars and max_seconds must be positive")
        if self.max_patches is not None and self.max_patches < 1:
            raise NotaGenError(f"max_patches must be at least 1, got {self.max_patches}; None sets no limit")


def settings_for(
    checkpoint: Checkpoint,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    temperature: float | None = None,
    bar_attempts: int | None = None,
    **limits: Any,
) -> SamplingSettings:
    """Settings to draw from a checkpoint with: those given, else what it advises, else the official ones.

    limits: further fields of `SamplingSettings`

    Raises `NotaGenError` on a value out of bounds; one that the checkpoint advises is named with its file.
    """
    asked: dict[str, Any] = {
        "top_k": top_k,
        "top_p": top_p,
        "temperature": temperature,
        "bar_attempts": bar_attempts,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    official = SamplingSettings(**given, **limits)
    advised: dict[str, Any] = {
        name: value for name, value in (checkpoint.advice or {}).items() if name not in given
    }
    try:
        return dataclasses.replace(official, **advised)
    except NotaGenError as error:
        raise NotaGenError(f"{checkpoint.source / ADVICE_FILE}: {error}; {ADVICE_REMEDY}") from error


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sampled piece."""

    text: str
    """The prompt and everything drawn after it, stream headers included."""
    finished: bool
    """Whether the piece came to its end patch."""
    reason: str
    """Why sampling stopped, in words."""
    patches: int
    """Patches drawn, the end patch included; without those of bars that were drawn again."""
    seconds: float
    """Time from the start of its prompt."""
    seed: int
    """The seed it was drawn with."""
    bars_redrawn: int = 0
    """How often a bar was drawn again because its voices did not agree."""


@dataclasses.dataclass(frozen=True)
class PieceProgress:
    """How far one piece has come."""

    index: int
    """Place of its prompt in the list."""
    seed: int
    patches: int
    """Patches drawn so far."""
    text: str
    """The prompt and everything drawn so far."""
    sample: Sample | None
    """The result, once the piece has stopped."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come; its text form is one line for people."""

    moved: tuple[PieceProgress, ...]
    """The pieces that the last chunk of patches moved on, each once more when it has stopped."""
    stopped: int
    """Pieces that have come to their end or were given up."""
    total: int
    """Pieces asked for."""
    characters: int
    """Characters drawn so far, of all pieces."""
    seconds: float
    """Time since the start of the run."""

    def __str__(self) -> str:
        pieces = f"{self.stopped} of {self.total} pieces done"
        speed = self.characters / self.seconds if self.seconds > 0 else 0.0
        return f"{pieces}, {self.characters} characters, {speed:.0f} a second"


class SamplingInterrupted(KeyboardInterrupt):
    """Ctrl-C while sampling; `samples` holds every piece begun so far, unfinished ones included."""

    def __init__(self, samples: list[Sample]) -> None:
        super().__init__("sampling was interrupted")
        self.samples = samples
