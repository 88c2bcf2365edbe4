"""Transposition of a whole tune into the 15 keys (paper §2.1)."""

import contextlib
import io

from notagen_jax.score.refusal import ScoreError, describe

KEYS = ("Cb", "C", "C#", "Db", "D", "Eb", "E", "F", "F#", "Gb", "G", "Ab", "A", "Bb", "B")
"""The 15 target keys; a key's place in this tuple is its index in data sets."""


def major_key(field: str) -> str:
    """Return the one of `KEYS` with the same signature as an ABC `K:` value (`F#min` -> `A`, `none` -> `C`).

    Raises `ScoreError` when the value is not a key that can be transposed.
    """
    from abctoolkit.transpose import lookup_key_according_to_keymode

    if field == "none":
        return "C"
    try:
        return lookup_key_according_to_keymode(field)
    except KeyError as error:
        raise ScoreError("the key cannot be transposed", f"K:{field}") from error


def transpose(lines: list[str], key: str) -> list[str]:
    """Transpose cleaned voice-by-voice ABC lines so that the tune's `K:` has the signature of `key`.

    Raises `ScoreError` when a note has no spelling in that key or a key change is not known.
    """
    from abctoolkit.transpose import transpose_an_abc_text

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            text = transpose_an_abc_text(lines, key)
    except Exception as error:
        # abctoolkit signals an unspellable note with bare Exception; everything narrower is a subclass.
        raise ScoreError("it cannot be written in all 15 keys", f"{key}: {describe(error)}") from error
    return [line + "\n" for line in text.split("\n") if line]
