"""Scores in disorder: does a judge hear more than which signs a piece is made of?"""

import re

import numpy as np

from notagen_jax.clamp2.m3_patches import BOS, EOS

_PLAIN_BAR = re.compile(rb"\[V:(\w+)\][^|]*[^|:]\|\n?")


def disordered(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A piece, uint8 (n, S), with each voice's bars in an order of their own.

    Every bar stays in its voice and as it is, so what is lost is how voices sound together, how one
    bar leads to the next, and whether the bars of a line are equally long. Bars with other bar lines
    than a single one, or cut at the patch's end, keep their places: where they stand would tell.
    """
    places: dict[bytes, list[int]] = {}
    for place, patch in enumerate(patches):
        text = patch[patch > EOS].tobytes()
        voice = _PLAIN_BAR.fullmatch(text) if patch[0] == BOS and (patch == EOS).any() else None
        if voice is not None:
            places.setdefault(voice[1], []).append(place)
    mixed = patches.copy()
    for own in places.values():
        mixed[own] = patches[rng.permutation(own)]
    return mixed
