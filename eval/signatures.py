"""Whether the voices of a piece stand in one key signature, bar by bar."""

import re

from notagen_jax.notation.tune import parse_tune
from notagen_jax.score.spelling import NoAnswer, signature_of

_INLINE_KEY = re.compile(r"\[K:\s*([^\]\s]*)[^\]]*\]")
_NO_KEY = "C"


def voices_apart(text: str) -> int | None:
    """The first bar, from 1, at whose end voices stand in different key signatures; None where none do.

    text: interleaved or reduced ABC, with stream headers or without

    A voice keeps the signature of the header's last `K:`, or of the `[K:…]` it came by last. One that no
    key has counts as a signature of its own. Transposing instruments stand in other signatures
    rightly, so of music with clarinets or horns this says nothing.
    """
    tune = parse_tune(text)
    fields = [line[2:].split() for line in tune.header if line.startswith("K:")]
    first = _signature(fields[-1][0] if fields and fields[-1] else _NO_KEY)
    signatures = dict.fromkeys(tune.voices, first)
    for number, row in enumerate(tune.rows, 1):
        for voice, bar in row.cells:
            if keys := _INLINE_KEY.findall(bar):
                signatures[voice] = _signature(keys[-1])
        if len(set(signatures.values())) > 1:
            return number
    return None


def _signature(key: str) -> str:
    """The major key with the same signature as a `K:` value; what is no key stays as it is written."""
    if key in ("", "none"):
        return _NO_KEY
    try:
        return signature_of(key)
    except NoAnswer:
        return key
