"""From a score file to the two text forms that the models read."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.score.clean import clean_abc
from notagen_jax.score.convert import abc_to_musicxml, musicxml_to_abc
from notagen_jax.score.interleave import interleave, reduce_rests, split_voices
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.source import ABC_SUFFIXES, MUSICXML_SUFFIXES, read_abc, read_musicxml
from notagen_jax.score.transpose import KEYS, Transposer, major_key

_VOICE_BY_VOICE = re.compile(r"^V:1\s*$", re.MULTILINE)
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
        return reduce_rests(split_voices(self._transposer.lines(key)))

    def reduced_all(self) -> dict[str, str]:
        """Return the rest-reduced text in every key, in the order of `KEYS`; raises `ScoreError`."""
        return {key: self.reduced(key) for key in KEYS}


def read_piece(path: str | Path) -> Piece:
    """Read and pre-process a score file (`.xml`, `.musicxml`, `.mxl` or `.abc`), named by its stem.

    Raises `ScoreError`, its message starting with the path, when the file is no usable score.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix in MUSICXML_SUFFIXES:
            return piece_from_abc(path.stem, musicxml_to_abc(read_musicxml(path)))
        if suffix in ABC_SUFFIXES:
            return piece_from_abc(path.stem, read_abc(path))
        raise ScoreError("not a score file (.xml, .musicxml, .mxl or .abc)")
    except ScoreError as error:
        raise error.at(str(path)) from error


def piece_from_abc(name: str, text: str) -> Piece:
    """Pre-process one ABC tune.

    Text in xml2abc's layout (a line `V:1`, then that voice's music, …) is read as it is; any other
    layout goes through MusicXML first. Raises `ScoreError` when it is no usable score.
    """
    if not _VOICE_BY_VOICE.search(text):
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
