"""The record form that the builders write and the loader reads.

Row `15 * piece + key` of a split is one piece in one key, keys in the order of
`notagen_jax.score.KEYS`, so that a key is read without the other 14. Beside the rows of a split
stands its index, a small array with all that the order of training depends on: a loader plans its
batches from that, whatever the size of the texts.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import encode_piece
from notagen_jax.score import KEYS

INDEX = np.dtype([("patches", "<i4", (len(KEYS),)), ("prompt", "<i4"), ("original_key", "<i4")])
"""One piece of a split: its patches in each key (begin and end patch included, without the prompt's),
the patches of its prompt lines and `%end` (0 where it has no labels), the index of its own key."""


_BETWEEN = "\f"  # stands in no text: control characters are refused


def index_file(split: str) -> str:
    """Name of the file, in the folder of a data set, that holds the index of a split (`.npy`, `INDEX`)."""
    return f"{split}.index.npy"


def lengths(texts: Sequence[str]) -> list[int]:
    """Patches of a piece in each of the 15 keys; raises `NotaGenError` naming the key that has none."""
    found = []
    for key, text in zip(KEYS, texts, strict=True):
        try:
            found.append(encode_piece(text).length)
        except NotaGenError as error:
            raise NotaGenError(f"in {key}: {error}") from error
    return found


def pack_texts(texts: Sequence[str], level: int) -> bytes:
    """A piece's texts in the order of `KEYS` as one zlib stream, a fifth to a tenth of their size."""
    return zlib.compress(_BETWEEN.join(texts).encode("ascii"), level)


def unpack_texts(packed: bytes) -> list[str]:
    """What `pack_texts` packed; raises `zlib.error` or `UnicodeDecodeError` when it is broken."""
    return zlib.decompress(packed).decode("ascii").split(_BETWEEN)


def prompt_lines(period: str, composer: str, instrumentation: str) -> str:
    """The lines that head the training text of a labelled piece, `%end` the last (fact sheet, section 1)."""
    return f"%{period}\n%{composer}\n%{instrumentation}\n%end\n"


def prompt_patches(period: str, composer: str, instrumentation: str) -> int:
    """Patches of the prompt's lines, each cut on its own; 0 for a piece without labels."""
    if not (period and composer and instrumentation):
        return 0
    lines = prompt_lines(period, composer, instrumentation).splitlines(keepends=True)
    return sum(-(-len(line) // PATCH_SIZE) for line in lines)
