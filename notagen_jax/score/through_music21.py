"""Humdrum kern and MuseData to MusicXML, by music21 (an optional package)."""

import contextlib
import importlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from notagen_jax.errors import NotaGenError
from notagen_jax.score.collection import collection_paused
from notagen_jax.score.kern import check_kern
from notagen_jax.score.refusal import ScoreError, describe

_ATTRIBUTE = re.compile(r"([KQT]): *(-?\d+(?:/\d+)?)")
# What music21 says of a note that it goes on without.
_LEFT_OUT = "WARNING: Error in parsing event"


def kern_to_musicxml(text: str) -> bytes:
    """Convert one Humdrum kern score into a partwise MusicXML document.

    Raises `ScoreError` when it is damaged, cut off, or nothing that music21 can read; `NotaGenError`
    when music21 is not installed.
    """
    check_kern(text)
    humdrum = _music21("humdrum.spineParser")

    def read() -> Any:
        collection = humdrum.HumdrumDataCollection(text)
        collection.parse()
        return collection.stream

    return _exported(read)


def musedata_to_musicxml(parts: list[str]) -> bytes:
    """Convert a MuseData score, given as the texts of its part files, into partwise MusicXML.

    Raises `ScoreError` when music21 cannot read it, `NotaGenError` when music21 is not installed.
    """
    musedata, stream = _music21("musedata"), _music21("stream")
    translate = _music21("musedata.translate")

    def read() -> Any:
        work = musedata.MuseDataWork()
        for text in parts:
            # An invisible rest is a rest; music21 would leave its bar out.
            work.addString(re.sub(r"^irest", "rest ", text, flags=re.MULTILINE))
        score = stream.Score()
        translate.museDataWorkToStreamScore(work, score)
        for part, source in zip(score.parts, work.getParts(), strict=True):
            # Else it is called by a number of the machine's memory.
            part.partName = re.sub(r"\s+", " ", source.getPartName() or "").strip()
            _insert_changes(part, source)
        return score

    return _exported(read)


def _insert_changes(part: Any, source: Any) -> None:
    """Insert the key and time signatures that come inside a MuseData part: music21 reads the first alone.

    Raises `ScoreError` when the part changes its unit of duration, which music21 passes over too.
    """
    key, meter = _music21("key"), _music21("meter")
    written = [measure for measure in source.getMeasures() if measure.hasNotes()]
    divisions = meters = ""
    for index, (measure, lines) in enumerate(zip(part.getElementsByClass("Measure"), written, strict=True)):
        for line in lines.src if index else [source._getAttributesRecord()]:
            attributes = dict(_ATTRIBUTE.findall(line)) if line.startswith("$") else {}
            if divisions and attributes.get("Q", divisions) != divisions:
                raise ScoreError("the MuseData changes its unit of duration", line.strip())
            divisions = attributes.get("Q", divisions)
            if index and "K" in attributes:
                measure.keySignature = key.KeySignature(int(attributes["K"]))
            if index and attributes.get("T", meters) != meters:
                beats = attributes["T"]
                common = beats == "1/1" or beats.endswith("/0")
                measure.timeSignature = meter.TimeSignature("4/4" if common else beats)
            meters = attributes.get("T", meters)


def _exported(read: Callable[[], Any]) -> bytes:
    exporter = _music21("musicxml.m21ToXml")
    notices = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(notices),
            contextlib.redirect_stdout(notices),
            warnings.catch_warnings(action="ignore"),
            collection_paused(),
        ):
            document = exporter.GeneralObjectExporter(read()).parse()
    except ScoreError:
        raise
    except Exception as error:
        # music21's exceptions share no base but this one.
        raise ScoreError("music21 cannot read it", describe(error)) from error
    left_out = notices.getvalue().partition(_LEFT_OUT)[2]
    if left_out:
        raise ScoreError("music21 cannot read it", left_out.splitlines()[0].strip()[:200])
    return document


def _music21(name: str) -> Any:
    try:
        return importlib.import_module(f"music21.{name}")
    except ImportError as error:
        raise NotaGenError(
            "kern and MuseData scores need music21; install it with: pip install music21"
        ) from error
