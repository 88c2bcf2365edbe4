"""Writes a score's texts into an output folder."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from notagen_jax.files import write_atomic
from notagen_jax.score.journal import Written, source_of, stamp_of
from notagen_jax.score.listing import Score, tunes_of
from notagen_jax.score.piece import read_piece
from notagen_jax.score.spelling import KEYS

MAX_NAME_BYTES = 200
"""Longest name of a piece; the file systems in use take 255 bytes, of which a temporary file needs some."""


def name_scores(scores: Iterable[Score], taken: dict[str, str]) -> dict[Score, str]:
    """Give each score a file name of its own: its name, or `name-<8 hex digits>` where that is taken.

    `taken` maps names of an earlier run to the source they belong to (`source_of`); a score keeps
    the name it has there. Names that differ only in capitals count as one (some file systems cannot
    hold both); one too long for a file name is cut.
    """
    by_source = {source: name for name, source in taken.items()}
    used = {name.casefold() for name in taken}
    names: dict[Score, str] = {}
    for score in scores:
        source = source_of(score)
        name = by_source.get(source)
        if name is None:
            name = os.fsencode(score.name)[:MAX_NAME_BYTES].decode("utf-8", "ignore")
            if name.casefold() in used or name != score.name:
                name = f"{name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}"
            used.add(name.casefold())
        names[score] = name
    return names


@dataclass(frozen=True)
class Job:
    """One score to prepare, the name of its piece and the output folder."""

    score: Score
    name: str
    out: Path

    def __str__(self) -> str:
        return str(self.score)


def prepare_score(job: Job) -> Written:
    """Write `interleaved/NAME.abc` and `reduced/KEY/NAME.abc` for the 15 keys.

    The interleaved file is written last: where it is, the piece is whole. Raises `ScoreError` when
    the score cannot be used (nothing is written then), `NotaGenError` when the folder cannot be written.
    """
    stamp = stamp_of(job.score)
    piece = read_piece(job.score)
    texts = piece.reduced_all()
    for key, text in texts.items():
        write_atomic(reduced_path(job.out, key, job.name), text)
    write_atomic(interleaved_path(job.out, job.name), piece.interleaved)
    return Written(
        name=job.name,
        source=source_of(job.score),
        stamp=stamp,
        sha256=digest(job.score),
        original_key=piece.original_key,
        bars=piece.bars,
        voices=piece.voices,
        staves=piece.staves,
    )


def interleaved_path(out: Path, name: str) -> Path:
    """Path of a piece's interleaved text."""
    return out / "interleaved" / f"{name}.abc"


def reduced_path(out: Path, key: str, name: str) -> Path:
    """Path of a piece's rest-reduced text in one key."""
    return out / "reduced" / key / f"{name}.abc"


def is_whole(written: Written, score: Score, out: Path) -> bool:
    """Whether an earlier run wrote all of a piece from a score that has not changed since."""
    paths = [interleaved_path(out, written.name)]
    paths += [reduced_path(out, key, written.name) for key in KEYS]
    if not all(path.is_file() for path in paths):
        return False
    return stamp_of(score) == written.stamp or digest(score) == written.sha256


def remove_piece(written: Written, out: Path) -> None:
    """Remove the texts of a piece whose score can be used no longer."""
    for path in (
        interleaved_path(out, written.name),
        *(reduced_path(out, key, written.name) for key in KEYS),
    ):
        path.unlink(missing_ok=True)


def sweep(out: Path) -> None:
    """Remove what a worker that was killed while it wrote has left under temporary names."""
    for folder in (out / "interleaved", *(out / "reduced" / key for key in KEYS)):
        for path in folder.glob(".*.abc.*"):
            path.unlink(missing_ok=True)


def digest(score: Score) -> str:
    """SHA-256 of a file's content, or of a tune's text, in hex."""
    if score.tune:
        return hashlib.sha256(tunes_of(score.path)[score.tune].encode()).hexdigest()
    with score.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
