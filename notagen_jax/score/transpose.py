"""Transposition of a whole tune into the 15 keys (paper §2.1).

The rules of spelling (which note, accidental and octave) are abctoolkit's; reading the music is
done once here for all 15 keys, where abctoolkit reads it again for each key, character by character.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from notagen_jax.score.clean import tune_start
from notagen_jax.score.refusal import ScoreError, describe

KEYS = ("Cb", "C", "C#", "Db", "D", "Eb", "E", "F", "F#", "Gb", "G", "Ab", "A", "Bb", "B")
"""The 15 target keys; a key's place in this tuple is its index in data sets."""

_BRACKETS = re.compile(r"\[[^\]]+\]")
_QUOTES = re.compile(r'"[^"]+"')
_DECORATIONS = re.compile(r"![^!]+!")
_BAR_LINES = re.compile(r"\|:|::|:\||\[\||\|\||\|\]|\|")
_CHORD_ROOTS = re.compile(r"[A-G][b#]?")
_NOTES = re.compile(r"[=^_]*[A-Ga-g]'*,*")

_NOTE, _CHORD_ROOT, _KEY, _BAR_LINE = range(4)


@dataclass(frozen=True, slots=True)
class _Element:
    """A stretch of a voice's text that a transposition rewrites, or that ends the reach of accidentals."""

    kind: int
    start: int
    end: int
    text: str
    key: str
    """The `K:` value in force."""
    sounding: str = ""
    """For a note: with the accidental that it sounds with."""


def major_key(field: str) -> str:
    """Return the one of `KEYS` with the same signature as an ABC `K:` value (`F#min` -> `A`, `none` -> `C`).

    Raises `ScoreError` when the value is not a key that can be transposed.
    """
    if field == "none":
        return "C"
    try:
        return _signature(field)
    except _NoAnswer as error:
        raise ScoreError("the key cannot be transposed", f"K:{field}") from error


class Transposer:
    """A tune read once, to be written in any of the 15 keys.

    `lines` is cleaned voice-by-voice ABC. Raises `ScoreError` when it has no voice 1.
    """

    def __init__(self, lines: list[str]) -> None:
        start = tune_start(lines)
        self._metadata = lines[:start]
        self._parts = list(_parts(lines[start:]))
        self._key = next((line[2:].strip() for line in self._metadata if line.startswith("K:")), "none")
        if self._key == "none":
            self._key = "C"

    def lines(self, key: str) -> list[str]:
        """Return the tune's lines with a `K:` of the same signature as `key`.

        Raises `ScoreError` when a note has no spelling in that key, or a key change is not known.
        """
        try:
            text = "".join(self._written(key))
        except _NoAnswer as error:
            raise ScoreError("it cannot be written in all 15 keys", f"{key}: {error}") from error
        return [line + "\n" for line in text.split("\n") if line]

    def _written(self, key: str) -> Iterator[str]:
        for line in self._metadata:
            field = line[2:].strip() if line.startswith("K:") else ""
            yield f"K:{_new_key(field, self._key, key)[0]}\n" if field and field != "none" else line
        for (symbol, text), voice in zip(self._parts, self._voices, strict=True):
            yield symbol + "\n"
            yield text if voice is None else voice.written(_new_key(voice.key, self._key, key)[1])

    @cached_property
    def _voices(self) -> list["_Voice | None"]:
        """The parts as read music; None for percussion, which has no key."""
        keys = self._voice_keys()
        return [
            None if keys.get(symbol) == "none" else _Voice(text, keys.get(symbol, self._key))
            for symbol, text in self._parts
        ]

    def _voice_keys(self) -> dict[str, str]:
        """The keys of the voices that have one of their own in the header (`none`: percussion)."""
        keys: dict[str, str] = {}
        symbol = ""
        for line in self._metadata:
            if line.startswith("V:"):
                symbol = line.split()[0]
                if "perc" in line[len(symbol) :]:
                    keys[symbol] = "none"
            elif line.startswith("K:") and symbol:
                keys.setdefault(symbol, line[2:].strip())
        return keys


def _parts(body: list[str]) -> Iterator[tuple[str, str]]:
    """The voices' symbols (`V:n`) and texts; the first line of `body` is a symbol."""
    starts = [index for index, line in enumerate(body) if index == 0 or line.startswith("V:")]
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        yield body[start].strip(), "".join(body[start + 1 : end])


class _Voice:
    """One voice's text with the elements that a transposition rewrites, in order."""

    def __init__(self, text: str, key: str) -> None:
        self._text, self.key = text, key
        self._elements = list(_sounding(_elements(text, key)))

    def written(self, target: str) -> str:
        """The text transposed so that the voice's key becomes `target`, one of `KEYS`."""
        out: list[str] = []
        written: dict[str, str] = {}  # pitch without accidental -> with the one it last had in this bar
        index = 0
        for element in self._elements:
            out.append(self._text[index : element.start])
            index = element.end
            if element.kind == _BAR_LINE:
                written.clear()
                out.append(element.text)
                continue
            new_key, signature = _new_key(element.key, self.key, target)
            if element.kind == _KEY:
                written.clear()
                out.append(new_key)
            elif element.kind == _CHORD_ROOT:
                out.append(_chord_root(element.text, _signature(element.key), signature))
            else:
                note, accidental, pitch = _note(element.sounding, _signature(element.key), signature)
                before = written.get(pitch)
                shown = before != note if before is not None else accidental != _in_key(signature, pitch)
                out.append(note if shown else pitch)
                written[pitch] = note
        out.append(self._text[index:])
        return "".join(out)


def _elements(text: str, key: str) -> list[_Element]:
    """Every element of a voice's text, by place; at one place in the order bar line, key, chord, note."""
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

    found = [(*match.span(), match.group(), _BAR_LINE) for match in _BAR_LINES.finditer(text)]
    found += [(*change, _KEY) for change in changes]
    found += [(*root, _CHORD_ROOT) for root in roots]
    found += [(*match.span(), match.group(), _NOTE) for match in _NOTES.finditer(blank.decode("ascii"))]
    found.sort(key=lambda element: element[0])
    elements = []
    ahead = iter([*changes, (len(text) + 1, 0, "")])
    change = next(ahead)
    for start, end, content, kind in found:
        while change[0] <= start:
            key = change[2]
            change = next(ahead)
        elements.append(_Element(kind, start, end, content, key))
    return elements


def _sounding(elements: list[_Element]) -> Iterator[_Element]:
    """The elements with each note's sounding accidental: its own, an earlier one of the bar, or the key's."""
    earlier: dict[str, str] = {}
    for element in elements:
        if element.kind in (_BAR_LINE, _KEY):
            earlier.clear()
        if element.kind != _NOTE:
            yield element
            continue
        accidental, pitch = _spelling(element.text)
        if accidental:
            sounding = element.text
        else:
            sounding = earlier.get(pitch) or _in_key(_signature(element.key), pitch) + pitch
        earlier[pitch] = sounding
        yield _Element(element.kind, element.start, element.end, element.text, element.key, sounding)


def _spelling(note: str) -> tuple[str, str]:
    """A note's accidental (may be empty) and its pitch with octave marks."""
    pitch = note.lstrip("=^_")
    return note[: len(note) - len(pitch)], pitch


class _NoAnswer(Exception):
    """abctoolkit has no spelling for a note, or does not know a key."""


def _ask(function: Callable[..., Any], *arguments: str) -> Any:
    """abctoolkit's answer. Raises `_NoAnswer` when it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        # It signals an unspellable note with bare Exception; everything narrower is a subclass.
        raise _NoAnswer(describe(error)) from error


@cache
def _signature(key: str) -> str:
    """The major key with the signature of a `K:` value."""
    from abctoolkit.transpose import lookup_key_according_to_keymode

    return _ask(lookup_key_according_to_keymode, key)


@cache
def _new_key(key: str, original: str, target: str) -> tuple[str, str]:
    """What a key of a tune in `original` becomes when the tune goes to `target`: `K:` value, signature."""
    from abctoolkit.transpose import lookup_new_keymode_to_transpose

    return _ask(lookup_new_keymode_to_transpose, key, original, target)


@cache
def _note(sounding: str, original: str, target: str) -> tuple[str, str, str]:
    """A note with its accidental in the target key: the whole, the accidental, the pitch without it."""
    from abctoolkit.transpose import transpose_a_note

    note = _ask(transpose_a_note, sounding, original, target)
    accidental, pitch = _spelling(note)
    return note, accidental, pitch


@cache
def _chord_root(root: str, original: str, target: str) -> str:
    from abctoolkit.transpose import transpose_a_chordnote

    return _ask(transpose_a_chordnote, root, original, target)


@cache
def _in_key(signature: str, pitch: str) -> str:
    """The accidental (`_`, `=` or `^`) that a key signature gives a pitch."""
    from abctoolkit.transpose import Key_accidental_dict

    return _ask(lambda: Key_accidental_dict[signature][pitch[0].upper()])
