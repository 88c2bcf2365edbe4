"""From a score file to the two text forms that the models read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.score.clean import clean_abc
from notagen_jax.score.collection import collection_paused
from notagen_jax.score.convert import abc_to_musicxml, musicxml_to_abc
from notagen_jax.score.interleave import interleave, split_voices
from notagen_jax.score.listing import Score, scores_in, tunes_of
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.source import (
    ABC_SUFFIXES,
    KERN_SUFFIXES,
    MUSEDATA_SUFFIXES,
    MUSICXML_SUFFIXES,
    read_musedata,
    read_musicxml,
    read_text,
)
from notagen_jax.score.spelling import KEYS, major_key
from notagen_jax.score.through_music21 import kern_to_musicxml, musedata_to_musicxml
from notagen_jax.score.transpose import Transposer
from notagen_jax.score.tunes import is_voice_by_voice

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Piece:
    """One score after pre-processing.

    `lines` is the cleaned voice-by-voice ABC, the source of every other form; `interleaved` is one
    line a bar in the original key; `original_key` is the member of `KEYS` with the tune's signature.
    """

    name: str
    lines: tuple[str, ...]
    interleaved: str
    original_key: str
    bars: int
    voices: int

    @property
    def staves(self) -> int:
        """Number of staves: voices in round brackets of `%%score` share one; without that line it is 1."""
        score = next((line for line in self.lines if line.startswith("%%score")), None)
        if score is None:
            return 1
        return len(re.findall(r"\([^)]*\)|\d+", score))

    @cached_property
    def _transposer(self) -> Transposer:
        return Transposer(list(self.lines))

    def reduced(self, key: str) -> str:
        """Return the rest-reduced text in one of the 15 `KEYS`; raises `ScoreError` where it has none."""
        if key not in KEYS:
            raise NotaGenError(f"{key!r} is not one of the 15 keys {' '.join(KEYS)}")
        return self._transposer.reduced(key)

    def reduced_all(self) -> dict[str, str]:
        """Return the rest-reduced text in every key, in the order of `KEYS`; raises `ScoreError`."""
        with collection_paused():
            return {key: self.reduced(key) for key in KEYS}


def read_piece(score: str | Path | Score) -> Piece:
    """Read and pre-process one score: a file, or one tune of a file (a `Score` of `scores_in`).

    Reads MusicXML (`.xml`, `.musicxml`, `.mxl`), ABC (`.abc`), Humdrum kern (`.krn`) and MuseData
    (`.musedata`, `.md`, `.zip` of part files); the piece gets the score's name. Raises `ScoreError`,
    its message starting with the path (and tune), when it is no usable score or a path whose file
    holds several; `NotaGenError` when kern or MuseData is given and music21 is not installed.
    """
    score = score if isinstance(score, Score) else Score(Path(score))
    try:
        return piece_from_abc(score.name, _abc(score))
    except ScoreError as error:
        raise error.at(str(score)) from error


def read_pieces(path: str | Path) -> Iterator[Piece | ScoreError]:
    """Yield what becomes of each score in a file: a piece, or the refusal that names its path and tune.

    One bad tune of an ABC file does not lose the others. `scores_in` and `read_piece` do the same a
    score at a time, for work that is spread over processes.
    """
    for score in scores_in(path):
        try:
            yield read_piece(score)
        except ScoreError as error:
            yield error


def _abc(score: Score) -> str:
    """The score as ABC of some layout."""
    suffix = score.path.suffix.lower()
    if suffix in MUSICXML_SUFFIXES:
        return musicxml_to_abc(read_musicxml(score.path))
    if suffix in KERN_SUFFIXES:
        return musicxml_to_abc(kern_to_musicxml(read_text(score.path)))
    if suffix in MUSEDATA_SUFFIXES:
        return musicxml_to_abc(musedata_to_musicxml(read_musedata(score.path)))
    if suffix in ABC_SUFFIXES:
        tunes = tunes_of(score.path)
        if not score.tune and len(tunes) > 1:
            raise ScoreError("the ABC holds several tunes", f"{len(tunes)}; read them one by one")
        if score.tune and score.tune not in tunes:
            raise ScoreError("the ABC holds no such tune")
        return tunes[score.tune] if score.tune else next(iter(tunes.values()))
    raise ScoreError("not a score file (.xml, .musicxml, .mxl, .abc, .krn or MuseData)")


def piece_from_abc(name: str, text: str) -> Piece:
    """Pre-process one ABC tune.

    Text in xml2abc's layout (`is_voice_by_voice`) is read as it is; any other layout goes through
    MusicXML first. Raises `ScoreError` when it is no usable score.
    """
    if not is_voice_by_voice(text):
        text = musicxml_to_abc(abc_to_musicxml(text))
    lines = clean_abc(text)
    for line in lines:
        control = _CONTROL.search(line)
        if control is not None:
            raise ScoreError("the music has control characters", f"{control.group()!r} in {line[:60]!r}")
    voices = split_voices(lines)
    key = next((line[2:].strip() for line in lines if line.startswith("K:")), "none")
    return Piece(
        name=name,
        lines=tuple(lines),
        interleaved=interleave(voices),
        original_key=major_key(key),
        bars=voices.bar_count,
        voices=len(voices.bars),
    )
