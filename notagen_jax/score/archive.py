"""Reads scores out of zip archives (`.mxl`, MuseData parts), with bounded memory."""

import contextlib
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.parsers import expat

from notagen_jax.score.refusal import ScoreError, describe

MAX_SCORE_BYTES = 64 * 2**20
"""Largest score that is read, unzipped. Real scores stay below: a full opera act is about 40 MB of XML."""

# NotImplementedError and RuntimeError: a compression or an encryption that zipfile does not read.
BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)

_CONTAINER = "META-INF/container.xml"
_MAX_CONTAINER_BYTES = 2**20
_MAX_MEMBERS = 10_000
_SCORE_FILE = re.compile(r"s\d+(\.\w+)?", re.IGNORECASE)


class _RootFound(Exception):
    """Ends the scan of a container once its root file is known."""


def unzip(path: Path, choose: Callable[[zipfile.ZipFile], list[str]]) -> list[bytes]:
    """Return the content of the members that `choose` names, together no larger than one score may be.

    Raises `ScoreError` when the file cannot be read, is empty, is no archive, or holds more.
    """
    try:
        check_size(path.stat().st_size)
        contents: list[bytes] = []
        with zipfile.ZipFile(path) as archive:
            for member in choose(archive):
                with archive.open(member) as stream:
                    contents.append(stream.read(MAX_SCORE_BYTES + 1 - sum(map(len, contents))))
                check_size(sum(map(len, contents)))
        return contents
    except BAD_ARCHIVE as error:
        raise ScoreError("not a readable archive; export the score again", describe(error)) from error
    except OSError as error:
        raise ScoreError("the file cannot be read", error.strerror or str(error)) from error


def check_size(size: int) -> None:
    """Raise `ScoreError` for a score of no bytes, or more than `MAX_SCORE_BYTES`."""
    if not size:
        raise ScoreError("the file is empty")
    if size > MAX_SCORE_BYTES:
        raise ScoreError(f"larger than {MAX_SCORE_BYTES >> 20} MiB; split the score")


def musicxml_member(archive: zipfile.ZipFile) -> list[str]:
    """The root document of an `.mxl` archive: the one that its container names, whatever its extension.

    Without a good container it is the first document. Raises `ScoreError` when there is none.
    """
    names = _members(archive)
    if _CONTAINER in archive.namelist():
        with archive.open(_CONTAINER) as stream:
            named = _rootfile(stream.read(_MAX_CONTAINER_BYTES))
        if named in names:
            return [named]
    documents = [name for name in names if name.lower().endswith((".xml", ".musicxml"))]
    if not documents:
        raise ScoreError("the archive holds no MusicXML document")
    return documents[:1]


def musedata_members(archive: zipfile.ZipFile) -> list[str]:
    """The files of an archive of MuseData parts, in the order of their names.

    Files named `s01` … hold all parts again, and are left out where there are others.
    """
    names = sorted(name for name in _members(archive) if not name.endswith("/"))
    parts = [name for name in names if not _SCORE_FILE.fullmatch(PurePosixPath(name).name)]
    return parts or names


def _members(archive: zipfile.ZipFile) -> list[str]:
    """The names of an archive's members, but for those that a system hides in it."""
    names = archive.namelist()
    if len(names) > _MAX_MEMBERS:
        raise ScoreError("the archive has too many members", f"{len(names)}")
    return [name for name in names if not _is_hidden(name)]


def _is_hidden(name: str) -> bool:
    return name.startswith(("META-INF/", "__MACOSX/")) or PurePosixPath(name).name.startswith(".")


def _rootfile(container: bytes) -> str:
    """Path of the first MusicXML root file that a container document names ('' when it names none)."""
    found: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("media-type", "")
        if name.rsplit(" ", 1)[-1] == "rootfile" and (not kind or "musicxml" in kind):
            found.append(attributes.get("full-path", ""))
            raise _RootFound

    def entity(name: str, *_: object) -> None:
        raise _RootFound

    parser.StartElementHandler = start
    parser.EntityDeclHandler = entity
    # A broken container still leaves the archive's own list of documents.
    with contextlib.suppress(_RootFound, expat.ExpatError, ValueError, LookupError):
        parser.Parse(container, True)
    return found[0] if found else ""
