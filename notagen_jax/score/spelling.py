"""How keys, notes and chord names are written in another key: abctoolkit's answers, remembered."""

from collections.abc import Callable
from functools import cache
from typing import Any

from notagen_jax.score.refusal import ScoreError, describe

KEYS = ("Cb", "C", "C#", "Db", "D", "Eb", "E", "F", "F#", "Gb", "G", "Ab", "A", "Bb", "B")
"""The 15 target keys; a key's place in this tuple is its index in data sets."""


class NoAnswer(Exception):
    """abctoolkit has no spelling for a note, or does not know a key."""


def major_key(field: str) -> str:
    """Return the one of `KEYS` with the same signature as an ABC `K:` value (`F#min` -> `A`, `none` -> `C`).

    Raises `ScoreError` when the value is not a key that can be transposed.
    """
    if field == "none":
        return "C"
    try:
        return signature_of(field)
    except NoAnswer as error:
        raise ScoreError("the key cannot be transposed", f"K:{field}") from error


def split_note(note: str) -> tuple[str, str]:
    """A note's accidental (may be empty) and its pitch with octave marks."""
    pitch = note.lstrip("=^_")
    return note[: len(note) - len(pitch)], pitch


@cache
def signature_of(key: str) -> str:
    """The major key with the signature of a `K:` value. Raises `NoAnswer`."""
    from abctoolkit.transpose import lookup_key_according_to_keymode

    return _ask(lookup_key_according_to_keymode, key)


@cache
def new_key(key: str, original: str, target: str) -> tuple[str, str]:
    """What a key of a tune in `original` becomes when the tune goes to `target`: `K:` value, signature.

    Raises `NoAnswer`.
    """
    from abctoolkit.transpose import lookup_new_keymode_to_transpose

    return _ask(lookup_new_keymode_to_transpose, key, original, target)


@cache
def new_note(sounding: str, original: str, target: str) -> tuple[str, str, bool]:
    """A note in the target key: with its accidental, without it, and whether that is the key's own.

    `original` and `target` are signatures. Raises `NoAnswer`.
    """
    from abctoolkit.transpose import transpose_a_note

    note = _ask(transpose_a_note, sounding, original, target)
    accidental, pitch = split_note(note)
    return note, pitch, accidental == in_key(target, pitch)


@cache
def new_chord_root(root: str, original: str, target: str) -> str:
    """A chord symbol's root in the target key. Raises `NoAnswer`."""
    from abctoolkit.transpose import transpose_a_chordnote

    return _ask(transpose_a_chordnote, root, original, target)


@cache
def in_key(signature: str, pitch: str) -> str:
    """The accidental (`_`, `=` or `^`) that a key signature gives a pitch. Raises `NoAnswer`."""
    from abctoolkit.transpose import Key_accidental_dict

    return _ask(lambda: Key_accidental_dict[signature][pitch[0].upper()])


def _ask(function: Callable[..., Any], *arguments: str) -> Any:
    """abctoolkit's answer. Raises `NoAnswer` when it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        # It signals an unspellable note with bare Exception; everything narrower is a subclass.
        raise NoAnswer(describe(error)) from error
