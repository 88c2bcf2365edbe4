"""The clean-up of ABC text before it is interleaved (paper §2.1, official code's behaviour)."""

import io
import re

from notagen_jax.score.refusal import ScoreError

DROPPED_FIELDS = ("X:", "T:", "C:", "W:", "w:", "Z:", "%%MIDI")
MAX_ANNOTATION = 40
"""Longest kept `"^…"` annotation, in characters, quotes and placement sign included."""

_QUOTED = re.compile(r'"[^"]*"')
_BAR_NUMBER = re.compile(r"%\d+\n$")
_REPEATED_SIGN = re.compile(r"([^a-zA-Z0-9])\1+")
_FIELD = re.compile(r"[A-Za-z]:")


def clean_abc(text: str) -> list[str]:
    """Return the cleaned lines (each ending `\\n`) of voice-by-voice ABC text.

    In order: no blank lines; ASCII; no title, credit and lyric fields; no bar numbers; no `\\"` in
    music; no quoted text with a bar line in it; annotations shortened. Raises `ScoreError` when
    there is no voice 1.
    """
    from unidecode import unidecode

    lines = [line for line in io.StringIO(text, newline=None) if line.strip()]
    lines = [unidecode(line) for line in lines]
    lines = [line for line in lines if not line.startswith(DROPPED_FIELDS)]
    body = tune_start(lines)
    lines = lines[:body] + [_BAR_NUMBER.sub("\n", line) for line in lines[body:]]
    lines = [line if _is_header(line) else line.replace('\\"', "") for line in lines]
    return [_clean_quotes(line) for line in lines]


def tune_start(lines: list[str]) -> int:
    """Index of the last line that is `V:1` alone, where the voices begin. Raises `ScoreError` if none is."""
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].strip() == "V:1":
            return index
    raise ScoreError("the ABC has no voice V:1")


def _is_header(line: str) -> bool:
    return line.startswith("%") or _FIELD.match(line) is not None


def _clean_quotes(line: str) -> str:
    for quoted in _QUOTED.findall(line):
        if "|" in quoted or "::" in quoted:
            line = line.replace(quoted, "")
    for quoted in _QUOTED.findall(line):
        if quoted == '""':
            line = line.replace(quoted, "")
        elif quoted[1] in "^_":
            shorter = _REPEATED_SIGN.sub(r"\1", quoted)
            line = line.replace(quoted, shorter if len(shorter) <= MAX_ANNOTATION else "")
    return line
