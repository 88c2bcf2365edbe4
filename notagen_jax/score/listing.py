"""Finds the scores: which files hold some, and which tunes a file of several holds."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.source import ABC_SUFFIXES, MUSEDATA_SUFFIXES, SCORE_SUFFIXES, is_musedata, read_text
from notagen_jax.score.tunes import split_tunes


@dataclass(frozen=True, order=True)
class Score:
    """One score on disk: a file, or one tune of an ABC file that holds several."""

    path: Path
    tune: str = ""
    """The tune's `X:` number (`12`; `12-2` for the second tune of that number); '' for the whole file."""

    @property
    def name(self) -> str:
        """The file's stem, with `.TUNE` after it where the file holds several."""
        return f"{self.path.stem}.{self.tune}" if self.tune else self.path.stem

    def __str__(self) -> str:
        return f"{self.path}:{self.tune}" if self.tune else str(self.path)


def scores_in(path: str | Path) -> list[Score]:
    """Return the scores of one file, in its order: itself, or each tune where it is ABC with several.

    The music is not looked at. A file that cannot be read counts as one score: reading that says why.
    """
    path = Path(path)
    if path.suffix.lower() in ABC_SUFFIXES:
        try:
            tunes = list(tunes_of(path))
        except ScoreError:
            tunes = []
        if len(tunes) > 1:
            return [Score(path, tune) for tune in tunes]
    return [Score(path)]


def tunes_of(path: Path) -> dict[str, str]:
    """Return the tunes of an ABC file by their `X:` numbers, each a complete ABC text.

    Raises `ScoreError` when the file cannot be read. The last file is kept, so that its tunes can be
    asked for one by one.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ScoreError("the file cannot be read", error.strerror or str(error)) from error
    return _tunes_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _tunes_of(path: Path, changed: int, size: int) -> dict[str, str]:
    return split_tunes(read_text(path))


def is_score(path: str | Path) -> bool:
    """Whether a file has the name of a score; one named `.md` or `.zip` is looked into.

    A link that leads nowhere counts by its name, so that it is refused by name and not passed over.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in SCORE_SUFFIXES:
        return path.is_file() or (path.is_symlink() and not path.is_dir())
    return suffix in MUSEDATA_SUFFIXES and path.is_file() and is_musedata(path)


def find_scores(inputs: Iterable[Path], out: Path | None = None) -> list[Path]:
    """Return the score files among `inputs` and in the folders among them, as `find_files` finds them."""
    return find_files(inputs, out)[0]


def find_files(inputs: Iterable[Path], out: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Return the score files among `inputs` and in the folders among them, and what else lies there.

    Both are sorted, each file once. Hidden files and what lies under `out` are left out; a file named
    outright counts as a score whatever its name; links to folders are not followed. Raises
    `NotaGenError` when an input is missing, a folder cannot be read or no score is found.
    """
    inputs = list(inputs)
    scores: set[Path] = set()
    others: set[Path] = set()
    out = out.resolve() if out is not None else None
    for given in inputs:
        if given.is_file():
            scores.add(given)
        elif given.is_dir():
            for path in walk(given, out):
                (scores if is_score(path) else others).add(path)
        else:
            raise NotaGenError(f"{given}: no such file or folder")
    if not scores:
        listed = ", ".join(map(str, inputs))
        raise NotaGenError(f"{listed}: no score found ({' '.join(SCORE_SUFFIXES)})")
    return sorted(scores), sorted(others - scores)


def walk(top: Path, out: Path | None = None) -> Iterator[Path]:
    """Yield the files of a folder and of all below it, and the links to folders, which are not followed.

    Hidden files and folders, and the folder `out` (resolved), are passed over. Raises `NotaGenError` when
    a folder cannot be read.
    """
    for folder, folders, files in os.walk(top, onerror=_unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (out is None or Path(folder, name).resolve() != out)
        )
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*files, *links]):
            if not name.startswith("."):
                yield Path(folder, name)


def by_suffix(files: Iterable[str | Path]) -> str:
    """How many files there are of each suffix, the most frequent first: `.pdf 3, .txt 1`."""
    counts = Counter(Path(file).suffix.lower() or Path(file).name for file in files)
    return ", ".join(f"{suffix} {count}" for suffix, count in counts.most_common())


def _unreadable(error: OSError) -> None:
    raise NotaGenError(f"{error.filename}: the folder cannot be read ({error.strerror or error})") from error
