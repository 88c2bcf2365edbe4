"""Key signatures of voices, as the header and `[K:…]` fields in the bars state them.

A signature is a number here: sharps above 0, flats below. The same number of them may go with several
keys (`Bb`, `Gmin`).
"""

import re

from notagen_jax.notation.tune import Row, Tune, parse_tune

Signatures = dict[str, int]
"""Signature of each voice that sounds as written; percussion and transposing voices are left out."""

_TONICS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SIGNS = {"": 0, "#": 7, "b": -7}
_MODES = {"": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3}
_MODES |= {"dor": -2, "phr": -4, "lyd": 1, "mix": -1, "loc": -5}
_LONG_MODES = "|".join(mode for mode in _MODES if len(mode) == 3)
_KEY = re.compile(rf"([A-G])([b#]?)(?:\s*(?:((?i:{_LONG_MODES}))[A-Za-z]*|(m)(?=\s|$))|\s|$)", re.ASCII)
_INLINE_KEY = re.compile(r"\[K:([^\]]*)\]")
_QUOTED = re.compile(r'"[^"]*"')
_PERCUSSION = re.compile(r"\bperc\b")
_TRANSPOSED = re.compile(r"transpose=(-?\d{1,3})")


def signature(key: str) -> int | None:
    """Signature of the value of a `K:` field: 3 for `A` and `F#min`, 0 for `none`.

    None where the value does not begin with a key, as in `bass` or `Dfoo`. What follows the key (a clef,
    accidentals of its own) is not looked at.
    """
    key = key.strip()
    if re.match(r"none\b", key):
        return 0
    match = _KEY.match(key)
    if match is None:
        return None
    return _TONICS[match[1]] + _SIGNS[match[2]] + _MODES[(match[3] or match[4] or "").lower()]


def opening_signatures(tune: Tune) -> Signatures:
    """What the header gives each declared voice that sounds as written.

    The tune's key is the first one before the voices, or the last one where none stands there; else a
    `K:` behind a `V:` line is that voice's own (xml2abc writes `K:none` behind percussion).
    """
    first: int | None = None
    last = 0
    own: dict[str, int] = {}
    apart: set[str] = set()
    voice = ""
    for line in tune.header:
        field, value = line[:2], line[2:].strip()
        if field == "V:" and value:
            voice = value.split()[0]
        if field not in ("V:", "K:"):
            continue
        if not _as_written(value):
            apart |= {voice} if voice else set(tune.voices)
        elif field == "K:" and (stated := signature(value)) is not None:
            last = stated
            if voice:
                own[voice] = stated
            elif first is None:
                first = stated
    if first is None:
        first, own = last, {}
    return {voice: own.get(voice, first) for voice in dict.fromkeys(tune.voices) if voice not in apart}


def signatures_behind(row: Row, before: Signatures) -> Signatures:
    """The signatures behind a bar, without voices that a field in it transposes or makes percussion."""
    after = dict(before)
    for voice, bar in row.cells:
        for key in _INLINE_KEY.findall(_QUOTED.sub("", bar)):
            sharps = signature(key)
            if not _as_written(key):
                after.pop(voice, None)
            elif sharps is not None and voice in after:
                after[voice] = sharps
    return after


def sets_apart(before: Signatures, after: Signatures, voices: set[str]) -> bool:
    """Whether some of these voices that stood in one signature before a bar stand in several behind it."""
    first: dict[int, int] = {}
    together = [voice for voice in voices if voice in before and voice in after]
    return any(first.setdefault(before[voice], after[voice]) != after[voice] for voice in together)


def voices_apart(text: str) -> bool:
    """Whether voices that sound as written stand in different key signatures behind some bar.

    text: interleaved or reduced ABC, with stream headers or without. Eight of 2,006 printed scores
    (OpenScore, music21's corpus) have such a bar.
    """
    tune = parse_tune(text)
    signatures = opening_signatures(tune)
    for row in tune.rows:
        signatures = signatures_behind(row, signatures)
        if len(set(signatures.values())) > 1:
            return True
    return False


def _as_written(value: str) -> bool:
    """Whether a voice sounds as written, but for octaves, behind a `V:` or `K:` field of this value."""
    value = _QUOTED.sub("", value).partition("%")[0]
    transposed = _TRANSPOSED.search(value)
    return not _PERCUSSION.search(value) and (transposed is None or int(transposed[1]) % 12 == 0)
