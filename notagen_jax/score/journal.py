"""What became of each score of a folder's runs, a line a score, so that an interrupted run can go on."""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO, TypeVar

from notagen_jax.errors import NotaGenError
from notagen_jax.score.listing import Score

WRITTEN = "pieces.jsonl"
REFUSED = "refused.jsonl"


@dataclass(frozen=True)
class Written:
    """One piece in the output folder: its name, where it came from, and what the trainer needs to know."""

    name: str
    source: str
    stamp: str
    sha256: str
    original_key: str
    bars: int
    voices: int
    staves: int


@dataclass(frozen=True)
class Unusable:
    """One score that was refused: where it is, the kind of reason, and the whole message."""

    source: str
    stamp: str
    reason: str
    message: str


Entry = TypeVar("Entry", Written, Unusable)


class Journal:
    """The journal of an output folder: `written` and `refused` hold each source's last entry.

    Entries are added inside a `with` block. Raises `NotaGenError` when the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._paths = {Written: out / WRITTEN, Unusable: out / REFUSED}
        self.written = {entry.source: entry for entry in _read(self._paths[Written], Written)}
        self.refused = {entry.source: entry for entry in _read(self._paths[Unusable], Unusable)}
        self._streams: dict[type, TextIO] = {}

    def add(self, entry: Written | Unusable) -> None:
        """Append an entry; it is on the file when this returns."""
        stream = self._streams[type(entry)]
        stream.write(json.dumps(asdict(entry)) + "\n")
        stream.flush()

    def __enter__(self) -> "Journal":
        for kind, path in self._paths.items():
            self._streams[kind] = _append_to(path)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()


def source_of(score: Score) -> str:
    """What identifies a score in the journal: its file's resolved path, and the tune after a colon."""
    # `Path.resolve` raises for a link that leads to itself.
    return str(replace(score, path=Path(os.path.realpath(score.path))))


def stamp_of(score: Score) -> str:
    """Size and time of change of a score's file ('' when it has gone): a file with the same is the same."""
    try:
        status = score.path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _read(path: Path, kind: type[Entry]) -> list[Entry]:
    """The entries of a journal file; a line cut short by a crash, or of another form, is left out."""
    if not path.is_file():
        return []
    names = {field.name for field in fields(kind)}
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values: Any = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(values, dict) and values.keys() == names:
            entries.append(kind(**values))
    return entries


def _append_to(path: Path) -> TextIO:
    try:
        stream = path.open("a+b")
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":  # the last run was killed while it wrote this line
                stream.write(b"\n")
        stream.close()
        return path.open("a", encoding="utf-8", newline="\n")
    except OSError as error:
        raise NotaGenError(
            f"{path}: cannot write ({error.strerror or error}); choose a folder that can be written"
        ) from error
