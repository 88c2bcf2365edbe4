"""Reads a score file into MusicXML bytes, ABC or kern text, or MuseData parts, with bounded memory."""

import io
import re
import zipfile
from pathlib import Path
from xml.parsers import expat

from notagen_jax.score import archive
from notagen_jax.score.refusal import ScoreError, describe

MUSICXML_SUFFIXES = (".xml", ".musicxml", ".mxl")
ABC_SUFFIXES = (".abc",)
KERN_SUFFIXES = (".krn", ".kern")
MUSEDATA_SUFFIXES = (".musedata", ".md", ".zip")
SCORE_SUFFIXES = (*MUSICXML_SUFFIXES, *ABC_SUFFIXES, *KERN_SUFFIXES, ".musedata")
"""Suffixes of score files; `.md` and `.zip` may be MuseData and much else, so such a file is looked into."""

_ZIP = b"PK\x03\x04"
_BEFORE_XML = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 2**16
_MAX_LOOKED_INTO = 8 * 2**20
# The line that every MuseData part has, and that the files of MIDI settings beside them have not.
_MUSEDATA = re.compile(r"^measure +\d+", re.MULTILINE)


class _RootFound(Exception):
    """Ends the scan of a document once its root element is known."""


def read_musicxml(path: Path) -> bytes:
    """Return the MusicXML document of an `.xml`, `.musicxml` or `.mxl` file as bytes.

    Whether it is zipped is told from its content. Raises `ScoreError` when the file cannot be read,
    is empty, larger than `archive.MAX_SCORE_BYTES` (unzipped), no archive, no XML, declares
    entities, or is no MusicXML score. Past its root element the document is not looked at.
    """
    data = _read_bounded(path)
    is_plain = data.lstrip(_BEFORE_XML).startswith(b"<")
    if data.startswith(_ZIP) or (path.suffix.lower() == ".mxl" and not is_plain):
        (data,) = archive.unzip(path, archive.musicxml_member)
    root = _root_element(data)
    if root not in ("score-partwise", "score-timewise"):
        raise ScoreError("not a MusicXML score", f"its root element is <{root}>")
    return data


def read_text(path: Path) -> str:
    """Return the text of an ABC or kern file with `\\n` line ends.

    The text is UTF-8, UTF-16 with its mark, or else Latin-1. Raises `ScoreError` when the file cannot
    be read, is empty, is no text, or is larger than `archive.MAX_SCORE_BYTES`.
    """
    text = _decoded(_read_bounded(path))
    if "\0" in text:
        raise ScoreError("not a text file")
    return text


def read_musedata(path: Path) -> list[str]:
    """Return the parts of a MuseData score: one text of all parts, or one for each file in a `.zip`.

    Raises `ScoreError` as `read_text` does, and when nothing in it is MuseData.
    """
    zipped = path.suffix.lower() == ".zip"
    parts = archive.unzip(path, archive.musedata_members) if zipped else [_read_bounded(path)]
    texts = [text for text in map(_decoded, parts) if _MUSEDATA.search(text)]
    if not texts:
        raise ScoreError("not a MuseData score")
    return texts


def is_musedata(path: Path) -> bool:
    """Whether a file holds MuseData: itself, or the first of the parts in an archive."""
    try:
        if path.suffix.lower() != ".zip":
            with path.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
        elif path.stat().st_size > _MAX_LOOKED_INTO:
            return False
        else:
            with zipfile.ZipFile(path) as zipped:
                members = archive.musedata_members(zipped)
                if not members:
                    return False
                with zipped.open(members[0]) as stream:
                    head = stream.read(_HEAD_BYTES)
    except (*archive.BAD_ARCHIVE, OSError, ScoreError):
        return False
    return _MUSEDATA.search(_decoded(head)) is not None


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig")
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
        return names[0]
    except expat.ExpatError as error:
        place = f"line {error.lineno}: {expat.ErrorString(error.code)}"
        raise ScoreError("not well-formed XML", place) from error
    except (ValueError, LookupError) as error:  # an encoding that the parser does not know
        raise ScoreError("not well-formed XML", describe(error)) from error
    raise ScoreError("not well-formed XML", "it has no root element")


def _refuse_entity(name: str, *_: object) -> None:
    # Scores need no entities, and nested ones grow to any size when they are expanded.
    raise ScoreError("the XML declares entities; remove its <!ENTITY> lines", f"entity {name!r}")


def _read_bounded(path: Path) -> bytes:
    try:
        archive.check_size(path.stat().st_size)
        with path.open("rb") as stream:
            data = stream.read(archive.MAX_SCORE_BYTES + 1)  # the file may grow, or be no regular one
    except OSError as error:
        raise ScoreError("the file cannot be read", error.strerror or str(error)) from error
    archive.check_size(len(data) if data.strip() else 0)
    return data
