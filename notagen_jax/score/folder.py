"""Finds score files in folders, and writes prepared pieces so that an interrupted run can go on."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.piece import read_piece
from notagen_jax.score.source import SCORE_SUFFIXES
from notagen_jax.score.transpose import KEYS

JOURNAL = "pieces.jsonl"


def find_scores(inputs: Iterable[Path], out: Path) -> list[Path]:
    """Return the score files among `inputs` and in the folders among them, sorted, each once.

    Hidden files and what lies under `out` are left out; a file named outright is kept whatever its
    name. Raises `NotaGenError` when an input is missing or no score is found.
    """
    inputs = list(inputs)
    found: set[Path] = set()
    out = out.resolve()
    for given in inputs:
        if given.is_file():
            found.add(given)
        elif given.is_dir():
            for folder, folders, files in os.walk(given):
                folders[:] = [
                    name
                    for name in folders
                    if not name.startswith(".") and Path(folder, name).resolve() != out
                ]
                found.update(
                    Path(folder, name)
                    for name in files
                    if name.lower().endswith(SCORE_SUFFIXES) and not name.startswith(".")
                )
        else:
            raise NotaGenError(f"{given}: no such file or folder")
    if not found:
        listed = ", ".join(map(str, inputs))
        raise NotaGenError(f"{listed}: no score found ({' '.join(SCORE_SUFFIXES)})")
    return sorted(found)


def name_scores(scores: Iterable[Path], taken: dict[str, str]) -> dict[Path, str]:
    """Give each score a file name of its own: its stem, or `stem-<8 hex digits>` where that is taken.

    `taken` maps names of an earlier run to the resolved path they belong to; a score keeps the name
    it has there. Names that differ only in capitals count as one (some file systems cannot hold both).
    """
    scores = list(scores)
    by_source = {source: name for name, source in taken.items()}
    used = {name.casefold() for name in taken}
    names: dict[Path, str] = {}
    for score in scores:
        source = str(score.resolve())
        name = by_source.get(source)
        if name is None:
            name = score.stem
            if name.casefold() in used:
                name = f"{score.stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
            used.add(name.casefold())
        names[score] = name
    return names


@dataclass(frozen=True)
class Written:
    """One piece in the output folder: its name, where it came from, and what the trainer needs to know."""

    name: str
    source: str
    sha256: str
    original_key: str
    bars: int
    voices: int


@dataclass(frozen=True)
class Job:
    """One score to prepare: the file, the name of its pieces and the output folder."""

    score: Path
    name: str
    out: Path

    def __str__(self) -> str:
        return str(self.score)


def prepare_score(job: Job) -> Written:
    """Write `interleaved/NAME.abc` and `reduced/KEY/NAME.abc` for the 15 keys.

    The interleaved file is written last: where it is, the piece is whole. Raises `ScoreError` when
    the score cannot be used (nothing is written then), `NotaGenError` when the folder cannot be written.
    """
    piece = read_piece(job.score)
    texts = piece.reduced_all()
    for key, text in texts.items():
        write_atomic(reduced_path(job.out, key, job.name), text)
    write_atomic(interleaved_path(job.out, job.name), piece.interleaved)
    return Written(
        name=job.name,
        source=str(job.score.resolve()),
        sha256=digest(job.score),
        original_key=piece.original_key,
        bars=piece.bars,
        voices=piece.voices,
    )


def interleaved_path(out: Path, name: str) -> Path:
    """Path of a piece's interleaved text."""
    return out / "interleaved" / f"{name}.abc"


def reduced_path(out: Path, key: str, name: str) -> Path:
    """Path of a piece's rest-reduced text in one key."""
    return out / "reduced" / key / f"{name}.abc"


def is_whole(written: Written, score: Path, out: Path) -> bool:
    """Whether an earlier run wrote all of a piece from a score that has not changed since."""
    paths = [interleaved_path(out, written.name)]
    paths += [reduced_path(out, key, written.name) for key in KEYS]
    return all(path.is_file() for path in paths) and digest(score) == written.sha256


def digest(score: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with score.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_journal(out: Path) -> dict[str, Written]:
    """Return the pieces that earlier runs wrote into `out`, by resolved source path.

    A last line cut short by a crash is left out; its piece is prepared again.
    """
    journal = out / JOURNAL
    if not journal.is_file():
        return {}
    pieces: dict[str, Written] = {}
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            written = Written(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        pieces[written.source] = written
    return pieces


def journal_line(written: Written) -> str:
    """One journal line, ending `\\n`."""
    return json.dumps(asdict(written)) + "\n"
