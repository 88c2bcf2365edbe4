"""Key signatures of `K:` fields."""

import re

_TONICS = {"C": 0, "D": 2, "E": 4, "F": -1, "G": 1, "A": 3, "B": 5}
_SIGNS = {"": 0, "#": 7, "b": -7}
_MODES = {"": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3}
_MODES |= {"dor": -2, "phr": -4, "lyd": 1, "mix": -1, "loc": -5}
_MODE_NAMES = "|".join(sorted(filter(None, _MODES), reverse=True))
_KEY = re.compile(rf"([A-G])([b#]?)(?:\s*((?i:{_MODE_NAMES}))[A-Za-z]*)?(?:\s|$)")


def signature(key: str) -> int | None:
    """Sharps (above 0) or flats (below 0) of the value of a `K:` field: 3 for `A` and `F#min`.

    None where it names no key, as `bass` or `none`, or a mode that ABC 2.1 §3.1.14 does not know.
    """
    match = _KEY.match(key.strip())
    if match is None:
        return None
    return _TONICS[match[1]] + _SIGNS[match[2]] + _MODES[(match[3] or "").lower()]
