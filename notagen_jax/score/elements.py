"""Reads a voice's ABC text into the elements that a transposition rewrites."""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from notagen_jax.score.spelling import in_key, signature_of, split_note

_BRACKETS = re.compile(r"\[[^\]]+\]")
_QUOTES = re.compile(r'"[^"]+"')
_DECORATIONS = re.compile(r"![^!]+!")
_BAR_LINES = re.compile(r"\|:|::|:\||\[\||\|\||\|\]|\|")
_CHORD_ROOTS = re.compile(r"[A-G][b#]?")
_NOTES = re.compile(r"[=^_]*[A-Ga-g]'*,*")

NOTE, CHORD_ROOT, KEY, BAR_LINE = range(4)


class Element(NamedTuple):
    """A stretch of a voice's text that a transposition rewrites, or that ends the reach of accidentals."""

    start: int
    end: int
    text: str
    kind: int
    key: str
    """The `K:` value in force."""
    sounding: str = ""
    """For a note: with the accidental that it sounds with."""
    shown: bool = False
    """For a note: whether that accidental has to be written, given the key and the bar so far."""


def read_elements(text: str, key: str) -> list[Element]:
    """Every element of a voice's text that begins in `key` (a `K:` value), by place.

    Elements at one place come in the order bar line, key, chord root, note. Raises `NoAnswer` for a
    key change to an unknown key.
    """
    elements = []
    last: dict[str, str] = {}  # pitch -> the note, with the accidental that it last sounded with
    for start, end, written, kind, key_there in _places(text, key):
        if kind == NOTE:
            pitch, own, in_this_key = _read_note(written, key_there)
            usual = last.get(pitch) or in_this_key
            last[pitch] = note = own or usual
            elements.append(Element(start, end, written, kind, key_there, note, note != usual))
        else:
            if kind != CHORD_ROOT:
                last.clear()
            elements.append(Element(start, end, written, kind, key_there))
    return elements


@cache
def _read_note(written: str, key: str) -> tuple[str, str, str]:
    """A note's pitch; the note if it has an accidental of its own, else ''; the pitch as the key has it."""
    accidental, pitch = split_note(written)
    return pitch, written if accidental else "", in_key(signature_of(key), pitch) + pitch


def _places(text: str, key: str) -> Iterator[tuple[int, int, str, int, str]]:
    """Start, end, text and kind of each element, and the `K:` value in force there."""
    blank = bytearray(text, "ascii", "replace")

    def hide(start: int, end: int) -> None:
        blank[start:end] = b" " * (end - start)

    changes: list[tuple[int, int, str]] = []
    for match in _BRACKETS.finditer(text):
        inside = match.group()
        if inside[1:3] == "K:" and inside[3] in "ABCDEFG":
            changes.append((match.start() + 3, match.end() - 1, inside[3:-1]))
            hide(*match.span())
        elif inside[2] == ":":
            hide(*match.span())
    roots = []
    for match in _QUOTES.finditer(text):
        hide(*match.span())
        if match.group()[1] in "ABCDEFG":
            for root in _CHORD_ROOTS.finditer(match.group()):
                roots.append((match.start() + root.start(), match.start() + root.end(), root.group()))
    for match in _DECORATIONS.finditer(text):
        hide(*match.span())

    places = [(*match.span(), match.group(), BAR_LINE) for match in _BAR_LINES.finditer(text)]
    places += [(*change, KEY) for change in changes]
    places += [(*root, CHORD_ROOT) for root in roots]
    places += [(*match.span(), match.group(), NOTE) for match in _NOTES.finditer(blank.decode("ascii"))]
    places.sort(key=lambda place: place[0])
    ahead = iter([*changes, (len(text) + 1, 0, "")])
    change = next(ahead)
    for place in places:
        while change[0] <= place[0]:
            key = change[2]
            change = next(ahead)
        yield (*place, key)
