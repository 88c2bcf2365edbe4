"""Masking of bar patches for M3's pre-training (CLaMP 2, section 3.2, and its official code)."""

import math
from typing import NamedTuple

import numpy as np

from notagen_jax.clamp2.m3_patches import EOS, MASK

MASK_RATIO = 0.45
"""Share of a piece's patches that are to be reconstructed."""
WAYS = {"mask": 0.8, "shuffle": 0.1, "keep": 0.1}
"""What happens to all chosen patches of a piece, and how often."""


class Masked(NamedTuple):
    """A piece as M3 sees it, and what it is to reconstruct."""

    inputs: np.ndarray
    """uint8 (n, S): the piece, its chosen patches masked, shuffled inside, or left."""
    chosen: np.ndarray
    """int32 (c,): places of the chosen patches, rising."""


def mask_piece(patches: np.ndarray, rng: np.random.Generator, ratio: float = MASK_RATIO) -> Masked:
    """Choose and hide patches of a piece, uint8 (n, S).

    One way is drawn for the whole piece: every chosen patch becomes 64 mask characters, or the
    characters between its first one and its eos are shuffled, or it stays.
    """
    chosen = choose(len(patches), rng, ratio)
    inputs = patches.copy()
    way = str(rng.choice(list(WAYS), p=list(WAYS.values())))
    if way == "mask":
        inputs[chosen] = MASK
    elif way == "shuffle":
        for place in chosen:
            inputs[place] = shuffled(patches[place], rng)
    return Masked(inputs, chosen)


def choose(count: int, rng: np.random.Generator, ratio: float = MASK_RATIO) -> np.ndarray:
    """Places of the patches to reconstruct: `ratio` of `count`, rounded up, int32, rising."""
    return np.sort(rng.permutation(count)[: math.ceil(ratio * count)]).astype(np.int32)


def shuffled(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A patch (S,) with the characters between its first one and its eos in another order.

    A patch without exactly one eos (cut at its end, or the end patch) is shuffled to its end.
    """
    ends = np.flatnonzero(patch == EOS)
    end = int(ends[0]) if len(ends) == 1 else len(patch)
    mixed = patch.copy()
    mixed[1:end] = rng.permutation(patch[1:end])
    return mixed
