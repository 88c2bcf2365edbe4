"""Losses of CLaMP 2's two trainings: pure functions that return sums, so that any split adds up."""

from typing import Any

import jax
import jax.numpy as jnp

from notagen_jax.clamp2.config import Clamp2Config
from notagen_jax.clamp2.m3_patches import PAD
from notagen_jax.clamp2.model import Clamp2Model


def reconstruction_nll(
    config: Clamp2Config,
    params: Any,
    patches: jax.Array,
    segments: jax.Array,
    chosen: jax.Array,
    targets: jax.Array,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Masked pre-training: NLL (nats) of the characters of chosen patches, and how many there are.

    patches:  uint8 (B, P, S)   pieces, their chosen patches hidden (`masking.mask_piece`)
    segments: int (B, P)        1 at patches, 0 at padding
    chosen:   int32 (B, C)      places of the chosen patches in their row, any place where there are fewer
    targets:  uint8 (B, C, S)   what stood there; all pad where there are fewer
    Returns two float32 scalars, sums over all characters but the first of a patch and pads.
    """
    rows, length, size = patches.shape
    places = chosen + length * jnp.arange(rows)[:, None]
    wanted = targets.reshape(-1, size)
    model = Clamp2Model(config)
    logits = jnp.asarray(
        model.apply(
            {"params": params},
            patches,
            segments > 0,
            places.reshape(-1),
            wanted,
            dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
            method=model.reconstruct,
        )
    )
    characters = wanted[:, 1:].astype(jnp.int32)
    given = jnp.take_along_axis(logits, characters[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - given
    real = characters != PAD
    return jnp.where(real, losses, 0.0).sum(), real.sum().astype(jnp.float32)


def contrastive_sums(
    music: jax.Array, text: jax.Array, all_music: jax.Array, all_text: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Symmetric contrastive loss of this device's pairs among all pairs, logit scale 1.

    music, text:         float32 (r, D)   row i of each belongs together
    all_music, all_text: float32 (R, D)   the rows of all devices, these among them
    Returns float32 scalars: the sum over the r pairs of the mean of both cross entropies (nats), and
    how many of them are nearest to their partner, from music to text and from text to music.
    """
    matched = jnp.einsum("id,id->i", music, text, precision=jax.lax.Precision.HIGHEST)
    to_text = jnp.einsum("id,jd->ij", music, all_text, precision=jax.lax.Precision.HIGHEST)
    to_music = jnp.einsum("id,jd->ij", text, all_music, precision=jax.lax.Precision.HIGHEST)
    entropies = (jax.nn.logsumexp(to_text, axis=1) + jax.nn.logsumexp(to_music, axis=1)) / 2 - matched
    # A pair whose text stands in the batch twice is as near to the one as to the other.
    slack = 1e-4 * (1.0 + jnp.abs(matched))
    nearest = {
        "music_to_text": (matched + slack >= to_text.max(axis=1)).sum().astype(jnp.float32),
        "text_to_music": (matched + slack >= to_music.max(axis=1)).sum().astype(jnp.float32),
    }
    return entropies.sum(), nearest
