"""How much of a piece stands in another one, note by note, whatever their keys.

Two pieces are compared in the normal form of the data sets (notes, rests, ties, repeats and the order
of voices; no header, annotation or blank), each note written as its distance in steps from the note
before it, without accidentals: so a piece has one form in all keys. The measure is containment: the
share of a piece's runs of `RUN` symbols that stand somewhere in the other. A copy has 1; unrelated
music of one style shares the common figures of an accompaniment.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfds_builders.normal_form import normal_form

RUN = 24
"""Symbols of a run: about two bars of one voice of a chorale."""

_NOTE = re.compile(r"\[V:[^\]]*\]|([A-Ga-g])([,']*)")
_ACCIDENTAL = re.compile(r"[\^_=]")
_STEPS = "CDEFGAB"
_FIRST_STEP_SYMBOL = 0x1000
"""Code of the symbol of no step, far from those of ASCII."""
_FACTORS = np.random.default_rng(0).integers(1, 1 << 63, RUN, dtype=np.uint64)


class Closest(NamedTuple):
    """The known piece that holds most of another one."""

    piece: str | None
    """Name of the known piece; None where none holds any of it."""
    containment: float
    """Share of the other's runs that stand in it, 0 … 1."""


def keyless(text: str) -> str:
    """The normal form of a piece (reduced or interleaved ABC) with steps for notes: the same in all keys."""
    before: int | None = None

    def step(found: re.Match[str]) -> str:
        nonlocal before
        letter, octave = found[1], found[2]
        if letter is None:  # the mark of a voice
            return found[0]
        height = _STEPS.index(letter.upper()) + 7 * (letter.islower() + octave.count("'") - octave.count(","))
        moved = 0 if before is None else height - before
        before = height
        return chr(_FIRST_STEP_SYMBOL + moved)

    return _ACCIDENTAL.sub("", _NOTE.sub(step, normal_form(text)))


def runs(symbols: str) -> np.ndarray:
    """The distinct runs of `RUN` symbols as 64-bit hashes, sorted: uint64 (n,)."""
    codes = np.frombuffer(symbols.encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(codes) < RUN:
        return np.zeros(0, np.uint64)
    # A random linear function modulo 2^64: different runs meet about once in 2^60.
    hashes = np.zeros(len(codes) - RUN + 1, np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += codes[place : place + len(hashes)] * factor
    return np.unique(hashes)


class KnownPieces:
    """Pieces that others are compared with."""

    def __init__(self, pieces: Iterable[tuple[str, str]]) -> None:
        """`pieces` are (name, text), all reduced or all interleaved ABC, as the others will be."""
        named = [(name, runs(keyless(text))) for name, text in pieces]
        self._names = [name for name, _ in named]
        hashes = np.concatenate([found for _, found in named] or [np.zeros(0, np.uint64)])
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        self._owners = np.repeat(np.arange(len(named)), [len(found) for _, found in named])[order]

    def closest(self, text: str) -> Closest | None:
        """The known piece that holds most of a text (stream headers or not); None without known pieces."""
        if not self._names:
            return None
        sought = runs(keyless(text))
        first, last = (np.searchsorted(self._hashes, sought, side) for side in ("left", "right"))
        holders = [self._owners[a:b] for a, b in zip(first, last, strict=True) if a < b]
        found = np.bincount(np.concatenate(holders or [self._owners[:0]]), minlength=len(self._names))
        best = int(found.argmax())
        shared = int(found[best])
        return Closest(self._names[best] if shared else None, shared / max(len(sought), 1))
