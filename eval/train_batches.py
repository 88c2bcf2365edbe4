"""Batches of real music for measurements: one piece a row, the same arrays for every implementation.

From built data sets, or, where there are none, from the pieces in tests/data gone on with until they fill
a row: real characters at real fills, on a machine with neither data nor the packages that read it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.patches import encode_training

PIECES = Path(__file__).parent.parent / "tests" / "data"

HostBatch = dict[str, np.ndarray]


def batches(sources: Sequence[str], count: int, rows: int, length: int, seed: int = 0) -> list[HostBatch]:
    """`count` batches: patches uint8 (rows, length, 16), segments int32 (rows, length), 1 at patches.

    A piece that is shorter than a row is followed by padding, a longer one is cut to a window. Raises
    `NotaGenError` when a source is no built data set or the sizes are not positive.
    """
    if count < 1 or rows < 1 or length < 2:
        raise NotaGenError("rows must be at least 1 and length at least 2")
    rng = np.random.default_rng(seed)
    wanted = count * rows
    pieces = _built(sources, wanted, length, rng) if sources else _endless(wanted, length)
    patches = np.zeros((wanted, length, PATCH_SIZE), np.uint8)
    segments = np.zeros((wanted, length), np.int32)
    for row, piece in enumerate(pieces):
        patches[row, : len(piece)] = piece
        segments[row, : len(piece)] = 1
    return [
        {"patches": patches[start : start + rows], "segments": segments[start : start + rows]}
        for start in range(0, wanted, rows)
    ]


def _built(sources: Sequence[str], wanted: int, length: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Pieces of the training splits of built data sets, drawn evenly, in their own keys."""
    from train.corpus import open_corpus

    corpora = [open_corpus(folder, "train") for folder in sources]
    sizes = np.array([len(corpus) for corpus in corpora])
    drawn = []
    for _ in range(wanted):
        corpus = corpora[rng.choice(len(corpora), p=sizes / sizes.sum())]
        piece = int(rng.integers(len(corpus)))
        text = corpus.text(piece, corpus.original_key(piece), prompt=False)
        drawn.append(encode_training(text, length, rng))
    return drawn


def _endless(wanted: int, length: int) -> list[np.ndarray]:
    """The pieces in tests/data in turn, their bodies repeated until they fill a row."""
    texts = [
        read_text(path, "get it back from the checkout") for path in sorted(PIECES.glob("reduced_*.abc"))
    ]
    if not texts:
        raise NotaGenError(f"no reduced_*.abc in {PIECES}; run from a checkout, or give --sources")
    pieces = []
    for text in texts:
        start = text.index("[V:")
        start = text.rindex("\n", 0, start) + 1
        head, body = text[:start], text[start:]
        repeats = 1 + length // (len(encode_training(text)) - len(encode_training(head + "[V:1]|\n")))
        pieces.append(encode_training(head + body * repeats, length))
    return [pieces[number % len(pieces)] for number in range(wanted)]
