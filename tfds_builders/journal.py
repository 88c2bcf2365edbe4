"""What has been converted already, in a folder, so that a build that was killed goes on.

A segment is two files: `ID.texts`, the packed texts one after the other, and `ID.jsonl`, one line a
score, written after its texts. A build adds segments and never touches older ones, so whatever moment
it is killed in, every whole line stands for a score that need not be converted again. Any number of
processes on any machines that see the folder may add segments to it.
"""

import json
import os
import socket
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from notagen_jax.errors import NotaGenError
from notagen_jax.score import ScoreError
from tfds_builders.conversion import Converted, tools
from tfds_builders.records import unpack_texts
from tfds_builders.works import Work

TODO = "todo-"
"""How the folders inside a journal begin that tell workers what to do."""
_OPEN_SEGMENTS = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one score: converted, with the place of its texts, or refused."""

    name: str
    converted: Converted | None = None
    segment: str = ""
    offset: int = 0
    size: int = 0
    reason: str = ""
    detail: str = ""


def stamp(work: Work) -> str:
    """What tells that a score's file is unchanged: its size and the time of its last change."""
    try:
        status = os.stat(work.score.path)
    except OSError:
        return "missing"
    return f"{status.st_size}-{status.st_mtime_ns}"


class Segment:
    """A segment that is being written."""

    def __init__(self, journal: str) -> None:
        folder = Path(journal)
        identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._tools, self._end = tools(), 0
        self._begun: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._texts: BinaryIO = (folder / f"{identity}.texts").open("wb")
            self._lines: BinaryIO = (folder / f"{identity}.jsonl").open("wb")
        except OSError as error:
            raise NotaGenError(f"{journal}: cannot write ({error.strerror or error})") from error

    def begin(self, work: Work) -> Work:
        """Note the state of a score's file before it is read: if it changes meanwhile, it is read again."""
        self._begun[work.name] = stamp(work)
        return work

    def add(self, work: Work, outcome: tuple[Converted, bytes] | ScoreError) -> None:
        """Write what became of a score that was begun; raises `NotaGenError` when the disk is full."""
        line: dict[str, Any] = {"name": work.name, "stamp": self._begun.pop(work.name), "tools": self._tools}
        try:
            if isinstance(outcome, ScoreError):
                line |= {"reason": outcome.reason, "detail": outcome.detail}
            else:
                converted, packed = outcome
                self._texts.write(packed)
                self._texts.flush()
                line |= {"converted": asdict(converted), "offset": self._end, "size": len(packed)}
                self._end += len(packed)
            self._lines.write(json.dumps(line).encode() + b"\n")
            self._lines.flush()
        except OSError as error:
            raise NotaGenError(f"{self._lines.name}: cannot write ({error.strerror or error})") from error

    def close(self) -> None:
        """Close both files, the texts first."""
        self._texts.close()
        self._lines.close()


@contextmanager
def new_segment(journal: str) -> Iterator[Segment]:
    """A new segment of the journal, closed when the block ends."""
    segment = Segment(journal)
    try:
        yield segment
    finally:
        segment.close()


class Journal:
    """Reads the segments of a journal folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()

    def entries(self, works: Iterable[Work]) -> dict[str, Entry]:
        """What became of those works whose files are unchanged since, by name."""
        stamps = {work.name: stamp(work) for work in works}
        known: dict[str, Entry] = {}
        current = tools()
        for path in sorted(Path(self.folder).glob("*.jsonl")):
            size = (path.parent / f"{path.stem}.texts").stat().st_size
            for line in path.read_bytes().split(b"\n"):
                found = _entry(line, path.stem, size, current)
                # Segments are in no order of time: what stands for another state of the file is passed over.
                if found is not None and found[0] == stamps.get(found[1].name):
                    known[found[1].name] = found[1]
        return {name: known[name] for name in stamps if name in known}

    def texts(self, entry: Entry) -> list[str]:
        """The texts of a converted score in the order of `KEYS`.

        Raises `NotaGenError` when the segment is broken.
        """
        stream = self._open.pop(entry.segment, None)
        path = Path(self.folder) / f"{entry.segment}.texts"
        try:
            if stream is None:
                stream = path.open("rb")
            self._open[entry.segment] = stream
            while len(self._open) > _OPEN_SEGMENTS:
                self._open.popitem(last=False)[1].close()
            stream.seek(entry.offset)
            return unpack_texts(stream.read(entry.size))
        except (OSError, zlib.error, UnicodeDecodeError) as error:
            raise NotaGenError(
                f"{path}: broken ({error}); delete {self.folder} to convert the scores again"
            ) from error

    def close(self) -> None:
        """Close the segments that are open."""
        while self._open:
            self._open.popitem()[1].close()


class LineCount:
    """How many scores have been added to a journal since this was made, on any machine."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._read = {path: path.stat().st_size for path in self._folder.glob("*.jsonl")}
        self._count = 0

    def added(self) -> int:
        """The number so far; reads only what is new."""
        for path in self._folder.glob("*.jsonl"):
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                new = stream.read()
            self._count += new.count(b"\n")
            self._read[path] = self._read.get(path, 0) + len(new)
        return self._count


def _entry(line: bytes, segment: str, size: int, current: str) -> tuple[str, Entry] | None:
    """The stamp and the entry of a journal line; None for one cut short, or written with other tools."""
    try:
        found = json.loads(line)
        if found["tools"] != current:
            return None
        if "reason" in found:
            return found["stamp"], Entry(found["name"], reason=found["reason"], detail=found["detail"])
        values = found["converted"]
        converted = Converted(**{**values, "patches": tuple(values["patches"])})
        if found["offset"] + found["size"] > size:
            return None
        place = {"offset": found["offset"], "size": found["size"]}
        return found["stamp"], Entry(found["name"], converted, segment, **place)
    except (ValueError, KeyError, TypeError):
        return None
