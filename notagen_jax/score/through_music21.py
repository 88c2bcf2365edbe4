"""Humdrum kern and MuseData to MusicXML, by music21 (an optional package)."""

import contextlib
import io
import re
from typing import Any

from notagen_jax.errors import NotaGenError
from notagen_jax.score.refusal import ScoreError, describe


def kern_to_musicxml(text: str) -> bytes:
    """Convert one Humdrum kern score into a partwise MusicXML document.

    Raises `ScoreError` when music21 cannot read it, `NotaGenError` when music21 is not installed.
    """
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
        for part in parts:
            work.addString(part)
        score = stream.Score()
        translate.museDataWorkToStreamScore(work, score)
        for part, source in zip(score.parts, work.getParts(), strict=False):
            part.partName = re.sub(r"\s+", " ", source.getPartName() or "").strip()
        return score

    return _exported(read)


def _exported(read: Any) -> bytes:
    exporter = _music21("musicxml.m21ToXml")
    notices = io.StringIO()
    try:
        with contextlib.redirect_stderr(notices), contextlib.redirect_stdout(notices):
            return exporter.GeneralObjectExporter(read()).parse()
    except Exception as error:
        # music21's exceptions share no base but this one.
        raise ScoreError("music21 cannot read it", describe(error)) from error


def _music21(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"music21.{name}")
    except ImportError as error:
        raise NotaGenError(
            "kern and MuseData scores need music21; install it with: pip install 'notagen-jax[kern]'"
        ) from error
