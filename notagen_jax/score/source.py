"""Reads a score file into MusicXML bytes or ABC text, with bounded memory."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from notagen_jax.score.refusal import ScoreError, describe

MUSICXML_SUFFIXES = (".xml", ".musicxml", ".mxl")
ABC_SUFFIXES = (".abc",)
KERN_SUFFIXES = (".krn", ".kern")
MUSEDATA_SUFFIXES = (".musedata", ".md", ".zip")
SCORE_SUFFIXES = (*MUSICXML_SUFFIXES, *ABC_SUFFIXES, *KERN_SUFFIXES, ".musedata")
"""Suffixes of score files; `.md` and `.zip` may be MuseData and much else, so such a file is looked into."""

MAX_SCORE_BYTES = 64 * 2**20
"""Largest score that is read, unzipped. Real scores stay below: a full opera act is about 40 MB of XML."""

_CONTAINER = "META-INF/container.xml"
_MAX_CONTAINER_BYTES = 2**20
_MAX_MEMBERS = 10_000
_HEAD_BYTES = 2**16
# The line that every MuseData part has: which groups of parts it belongs to, or its attributes.
_MUSEDATA = re.compile(r"^(Group memberships:|\\$.*[KQT]:)", re.MULTILINE)
# NotImplementedError and RuntimeError: a compression or an encryption that zipfile does not read.
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class _RootFound(Exception):
    """Ends the scan of a document once its root element, or a container's root file, is known."""


def read_musicxml(path: Path) -> bytes:
    """Return the MusicXML document of an `.xml`, `.musicxml` or `.mxl` file as bytes.

    The root document of an `.mxl` archive is the one that `META-INF/container.xml` names, whatever
    its extension. Raises `ScoreError` when the file cannot be read, is empty, larger than
    `MAX_SCORE_BYTES` (unzipped), no archive, no XML, declares entities, or is not a
    `score-partwise`. Past its root element the document is not looked at.
    """
    if path.suffix.lower() == ".mxl":
        (data,) = _unzip(path, lambda archive: [_root_member(archive)])
    else:
        data = _read_bounded(path)
    root = _root_element(data)
    if root == "score-timewise":
        raise ScoreError("score-timewise MusicXML is not supported; save it as score-partwise")
    if root != "score-partwise":
        raise ScoreError("not a MusicXML score", f"its root element is <{root}>")
    return data


def read_text(path: Path) -> str:
    """Return the text of an ABC or kern file (UTF-8, or Latin-1 where it is not) with `\\n` line ends.

    Raises `ScoreError` when the file cannot be read, is empty, or is larger than `MAX_SCORE_BYTES`.
    """
    return _decoded(_read_bounded(path))


def read_musedata(path: Path) -> list[str]:
    """Return the parts of a MuseData score: one text of all parts, or one for each file in a `.zip`.

    Raises `ScoreError` as `read_text` does, and when nothing in it is MuseData.
    """
    parts = _unzip(path, _musedata_members) if path.suffix.lower() == ".zip" else [_read_bounded(path)]
    texts = [text for text in map(_decoded, parts) if _MUSEDATA.search(text)]
    if not texts:
        raise ScoreError("not a MuseData score")
    return texts


def is_musedata(path: Path) -> bool:
    """Whether a file holds MuseData: itself, or the first parts of an archive."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = _musedata_members(archive)
                if not members:
                    return False
                with archive.open(members[0]) as stream:
                    head = stream.read(_HEAD_BYTES)
        else:
            with path.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
    except (*_BAD_ARCHIVE, OSError, ScoreError):
        return False
    return _MUSEDATA.search(_decoded(head)) is not None


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return io.StringIO(text, newline=None).read()


def _root_element(data: bytes) -> str:
    """Name of the root element, after what stands before it has been found free of entities.

    Entities can be declared nowhere else; whether the rest is well formed is for the reader to say.
    """
    names: list[str] = []

    def start(name: str, _: object) -> None:
        names.append(name)
        raise _RootFound

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    parser.StartElementHandler = start
    try:
        parser.Parse(data, True)
    except _RootFound:
        pass
    except expat.ExpatError as error:
        place = f"line {error.lineno}: {expat.ErrorString(error.code)}"
        raise ScoreError("not well-formed XML", place) from error
    except (ValueError, LookupError) as error:  # an encoding that the parser does not know
        raise ScoreError("not well-formed XML", describe(error)) from error
    return names[0]


def _refuse_entity(name: str, *_: object) -> None:
    # Scores need no entities, and nested ones grow to any size when they are expanded.
    raise ScoreError("the XML declares entities; remove its <!ENTITY> lines", f"entity {name!r}")


def _read_bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_SCORE_BYTES + 1)
    except OSError as error:
        raise ScoreError("the file cannot be read", error.strerror or str(error)) from error
    return _checked(data)


def _checked(data: bytes, limit: int | None = None) -> bytes:
    if len(data) > (MAX_SCORE_BYTES if limit is None else limit):
        raise ScoreError(f"larger than {MAX_SCORE_BYTES >> 20} MiB; split the score")
    if not data.strip():
        raise ScoreError("the file is empty")
    return data


def _unzip(path: Path, choose: Callable[[zipfile.ZipFile], list[str]]) -> list[bytes]:
    """Content of the members that `choose` names, together no larger than one score may be."""
    try:
        if not path.stat().st_size:
            raise ScoreError("the file is empty")
        contents: list[bytes] = []
        with zipfile.ZipFile(path) as archive:
            for member in choose(archive):
                left = MAX_SCORE_BYTES - sum(map(len, contents))
                with archive.open(member) as stream:
                    contents.append(_checked(stream.read(left + 1), left))
        return contents
    except _BAD_ARCHIVE as error:
        raise ScoreError("not a readable archive; export the score again", describe(error)) from error
    except OSError as error:
        raise ScoreError("the file cannot be read", error.strerror or str(error)) from error


def _musedata_members(archive: zipfile.ZipFile) -> list[str]:
    """The part files of a MuseData archive, in the order of their names."""
    names = _members(archive)
    return sorted(name for name in names if not _is_hidden(name) and not name.endswith("/"))


def _members(archive: zipfile.ZipFile) -> list[str]:
    names = archive.namelist()
    if len(names) > _MAX_MEMBERS:
        raise ScoreError("the archive has too many members", f"{len(names)}")
    return names


def _is_hidden(name: str) -> bool:
    return name.startswith(("META-INF/", "__MACOSX/")) or Path(name).name.startswith(".")


def _root_member(archive: zipfile.ZipFile) -> str:
    names = _members(archive)
    if _CONTAINER in names:
        with archive.open(_CONTAINER) as stream:
            named = _rootfile(stream.read(_MAX_CONTAINER_BYTES))
        if named in names:
            return named
    for name in names:
        if not _is_hidden(name) and name.lower().endswith((".xml", ".musicxml")):
            return name
    raise ScoreError("the archive holds no MusicXML document")


def _rootfile(container: bytes) -> str:
    """Path of the first MusicXML root file that a container document names ('' when it names none)."""
    found: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")

    def start(name: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("media-type", "")
        if name.rsplit(" ", 1)[-1] == "rootfile" and (not kind or "musicxml" in kind):
            found.append(attributes.get("full-path", ""))
            raise _RootFound

    parser.StartElementHandler = start
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(container, True)
    except _RootFound:
        return found[0]
    except (expat.ExpatError, ValueError, LookupError):
        return ""  # a broken container still leaves the archive's own list of documents
    return ""
