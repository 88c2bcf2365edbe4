"""Preference data on disk: one JSON line for every chosen or rejected piece."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic

VERDICTS = ("chosen", "rejected")


@dataclasses.dataclass(frozen=True)
class Preference:
    """A piece that the policy should write more, or less, of.

    Raises `NotaGenError` when the verdict is neither "chosen" nor "rejected".
    """

    prompt: str
    """Pieces are compared with those of the same prompt only."""
    name: str
    verdict: str
    """"chosen" or "rejected"."""
    text: str
    """As the model wrote it, stream headers in."""
    score: float | None = None
    """What it was judged by, where that is known."""
    why: str = ""
    """Why it has its verdict, where that is known."""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise NotaGenError(f"the verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}")


def write_preferences(path: Path, preferences: Sequence[Preference]) -> None:
    """Write a preference file, whole."""
    write_atomic(path, "".join(json.dumps(dataclasses.asdict(piece)) + "\n" for piece in preferences))


def read_preferences(path: Path) -> list[Preference]:
    """The pieces of a preference file.

    Raises `NotaGenError` naming the line that is no preference, or when no prompt has both a chosen
    and a rejected piece.
    """
    pieces = []
    text = read_text(path, "give a preferences.jsonl, one JSON object of prompt, name, verdict, text a line")
    for number, row in enumerate(text.splitlines(), 1):
        try:
            pieces.append(Preference(**json.loads(row)))
        except (ValueError, TypeError, NotaGenError) as error:
            raise NotaGenError(
                f"{path}, line {number}: {error}; a line is a JSON object of prompt, name, verdict, text"
            ) from error
    sides = {(piece.prompt, piece.verdict) for piece in pieces}
    if not any((prompt, "chosen") in sides and (prompt, "rejected") in sides for prompt, _ in sides):
        raise NotaGenError(
            f"{path}: no prompt has both a chosen and a rejected piece, so there is no pair to learn from; "
            "sample more pieces, or let the filters pass more"
        )
    return pieces
