"""MusicXML to ABC by xml2abc, and ABC to MusicXML by abc2xml, both driven inside this process.

xml2abc is a script whose functions share one module-level output object; giving it a fresh object
a score is all that its own main program does, and saves the start of a process (4 times as fast).
"""

import contextlib
import functools
import importlib
import io
import re
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from notagen_jax.errors import NotaGenError
from notagen_jax.score.collection import collection_paused
from notagen_jax.score.indexed import IndexedTree
from notagen_jax.score.normalise import normalised
from notagen_jax.score.refusal import ScoreError, describe

# `-d 8 -c 6 -x` and the defaults of every other option (paper §2.1 uses exactly these).
_OPTIONS = SimpleNamespace(
    u=None, m=0, c=6, d=8, n=0, b=0, o="", v=0, x=True, p=[], j=None, t=None, s=None,
    v1=None, ped=True, stm=False, i=None,
)  # fmt: skip

# What abc2xml says of a sign that it passes over: the text around, and dashes that end at the place.
_SKIPPED = "**misplaced symbol"
_PLACE = re.compile(r"^\*\*misplaced symbol.*\n+(.*)\n(-*)\^$", re.MULTILINE)
# The end of a slur that began nowhere, and marks of old ABC for the spacing of lines: no music is lost.
_HARMLESS = (")", "*")
# Backquotes between notes are for the reader's eye alone (ABC standard 2.1, section 4.7).
_BACKQUOTE = re.compile(r'("[^"\n]*"|^[A-Za-z]:.*)|`', re.MULTILINE)

# xml2abc compiles one pattern anew for each note.
_PATTERNS = SimpleNamespace(**{**vars(re), "compile": functools.cache(re.compile)})

# What converters written for good scores raise on broken ones: each means "this score cannot be converted".
_BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError, TypeError)


def musicxml_to_abc(document: bytes) -> str:
    """Convert a partwise MusicXML document into voice-by-voice ABC (unit length 1/8, no line breaks).

    Byte-equal to the standard output of the official code's `xml2abc -d 8 -c 6 -x`. Raises
    `ScoreError` when the converter fails or finds no notes.
    """
    with collection_paused():
        return _converted(document)


def _converted(document: bytes) -> str:
    xml2abc: Any = _module("abctoolkit.xml2abc")
    tree = IndexedTree(normalised(document).getroot())
    output, notices = io.StringIO(), io.StringIO()
    # The converter reads its file by this name; it is given the tree that is read already.
    xml2abc.re = _PATTERNS
    xml2abc.E = SimpleNamespace(parse=lambda tree: tree, Element=ElementTree.Element)
    xml2abc.abcOut = xml2abc.ABCoutput("score.abc", "", 0, _OPTIONS)
    xml2abc.abcOut.outfile = output
    try:
        with contextlib.redirect_stderr(notices), contextlib.redirect_stdout(notices):
            xml2abc.Parser(_OPTIONS).parse(tree)
    except (*_BROKEN, ValueError) as error:
        raise ScoreError("xml2abc cannot convert it", describe(error)) from error
    text = output.getvalue()
    if not text.strip():
        raise ScoreError("the score has no notes")
    return text


def abc_to_musicxml(text: str) -> bytes:
    """Convert one ABC tune of any layout (one voice, or `[V:n]` inside lines) into MusicXML.

    Raises `ScoreError` when abc2xml fails, or skips a part of it.
    """
    abc2xml: Any = _module("abctoolkit.abc2xml")
    abc2xml.mxm = abc2xml.MusicXml()
    abc2xml.mxm.uSyms = dict(abc2xml.MusicXml.uSyms)  # else a tune's own symbols stay for all later ones
    abc2xml.readfile = lambda name, message: None  # `%%abc-include` would read any file
    notices = io.StringIO()
    try:
        with contextlib.redirect_stderr(notices), contextlib.redirect_stdout(notices), collection_paused():
            documents = abc2xml.getXmlDocs(_BACKQUOTE.sub(r"\1", text))
    except (*_BROKEN, ValueError) as error:
        raise ScoreError("abc2xml cannot read it", describe(error)) from error
    said = notices.getvalue()
    places = _PLACE.findall(said)
    for around, dashes in places:
        if around[len(dashes) :].lstrip()[:1] not in _HARMLESS:
            raise ScoreError("abc2xml cannot read it", f"misplaced symbol in {around[: len(dashes) + 10]!r}")
    if not documents or said.count(_SKIPPED) != len(places):
        raise ScoreError("abc2xml cannot read it", " ".join(said.replace("-", "").split())[:200])
    return ElementTree.tostring(documents[0])


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotaGenError(
            f"score conversion needs {error.name}; install it with: pip install {error.name}"
        ) from error
