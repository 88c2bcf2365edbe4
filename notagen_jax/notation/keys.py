"""Key signatures of voices, as the header and `[K:…]` fields in the bars state them."""

import re

from notagen_jax.notation.tune import Row, Tune, parse_tune

Signatures = dict[str, int]
"""Sharps (above 0) or flats (below 0) of each voice that sounds as written."""

_TONICS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SIGNS = {"": 0, "#": 7, "b": -7}
_MODES = {"": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3}
_MODES |= {"dor": -2, "phr": -4, "lyd": 1, "mix": -1, "loc": -5}
_MODE_NAMES = "|".join(sorted(filter(None, _MODES), reverse=True))
_KEY = re.compile(rf"([A-G])([b#]?)(?:\s*((?i:{_MODE_NAMES}))[A-Za-z]*)?(?:\s|$)")
_INLINE_KEY = re.compile(r"\[K:([^\]]*)\]")


def signature(key: str) -> int | None:
    """Sharps (above 0) or flats (below 0) of the value of a `K:` field: 3 for `A` and `F#min`, 0 for `none`.

    None where it names no key, as `bass`, or a mode that ABC 2.1 §3.1.14 does not know.
    """
    key = key.strip()
    if key == "none":
        return 0
    match = _KEY.match(key)
    if match is None:
        return None
    return _TONICS[match[1]] + _SIGNS[match[2]] + _MODES[(match[3] or "").lower()]


def opening_signatures(tune: Tune) -> Signatures:
    """What the header gives each declared voice, but for those that it declares with `transpose=`.

    These rightly stand in another signature than the others.
    """
    keys = [line[2:] for line in tune.header if line.startswith("K:")]
    sharps = signature(keys[-1]) if keys else None
    transposed = {
        line[2:].split()[0] for line in tune.header if line.startswith("V:") and "transpose=" in line
    }
    return dict.fromkeys((voice for voice in tune.voices if voice not in transposed), sharps or 0)


def stated_signatures(row: Row, before: Signatures) -> Signatures:
    """The signatures that a bar's `[K:…]` fields give voices of `before`, the last one of each voice."""
    stated = {}
    for voice, bar in row.cells:
        for key in _INLINE_KEY.findall(bar) if voice in before else ():
            sharps = signature(key)
            if sharps is not None:
                stated[voice] = sharps
    return stated


def voices_apart(text: str) -> int | None:
    """The first bar, from 1, behind which voices stand in different key signatures; None where none do.

    text: interleaved or reduced ABC, with stream headers or without. So do 12 of 2,006 scores in print
    (OpenScore, music21's chorales and quartets).
    """
    tune = parse_tune(text)
    signatures = opening_signatures(tune)
    for number, row in enumerate(tune.rows, 1):
        signatures |= stated_signatures(row, signatures)
        if len(set(signatures.values())) > 1:
            return number
    return None
