"""Likelihoods of patches under a model: pure functions of (params, patches).

Targets are all characters that are not pad, of every patch but the first of each piece (paper
section 3.1). Pads stand only at the end of a patch and of a row, so causal attention alone keeps
them out of every prediction.
"""

from typing import Any

import jax
import jax.numpy as jnp

from notagen_jax.char_chunks import char_nll_sum
from notagen_jax.config import ModelConfig
from notagen_jax.model import NotaGen, PatchDecoder
from notagen_jax.patches import PAD


def target_mask(patches: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """Which characters are targets: bool (B, P-1, 16) for patches (B, P, 16).

    `segments` int (B, P) numbers the pieces packed into a row from 1, with 0 for padding; the first
    patch of a piece is not predicted from the piece before it, and nothing in padding is a target.
    """
    mask = patches[:, 1:] != PAD
    if segments is not None:
        inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        mask &= inside[..., None]
    return mask


def char_log_probs(
    config: ModelConfig,
    params: Any,
    patches: jax.Array,
    segments: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    adapters: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability (nats) of every target character.

    patches:  uint8 (B, P, 16)
    segments: int (B, P) or None     pieces packed into a row; see `target_mask`
    dropout_key: a key turns dropout on; None is evaluation
    adapters: low-rank pairs beside the parameters, as `notagen_jax.lora.scaled` gives them
    Returns float32 (B, P-1, 16), zero where there is no target, and the bool mask of targets.
    """
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    variables = {"params": params} if adapters is None else {"params": params, "adapters": adapters}
    logits = jnp.asarray(NotaGen(config).apply(variables, patches, segments, dropout_key is None, rngs=rngs))
    targets = patches[:, 1:].astype(jnp.int32)[..., None]
    chosen = jnp.take_along_axis(logits, targets, axis=-1)[..., 0]
    mask = target_mask(patches, segments)
    return jnp.where(mask, chosen - jax.nn.logsumexp(logits, axis=-1), 0.0), mask


def nll_sum(
    config: ModelConfig,
    params: Any,
    patches: jax.Array,
    segments: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    adapters: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Sum of negative log-likelihoods (nats) and number of target characters, both float32 scalars.

    Sums, not means: adding them over devices or accumulated batches and dividing once gives the
    mean of the large batch exactly. With `config.char_chunk` the gradient is the adapters' alone where
    there are any.
    """
    if not config.char_chunk:
        log_probs, mask = char_log_probs(config, params, patches, segments, dropout_key, adapters)
        return -log_probs.sum(), mask.sum().astype(jnp.float32)

    def variables(decoder: str) -> dict[str, Any]:
        own = {"params": params[decoder]}
        return own if adapters is None else {**own, "adapters": adapters[decoder]}

    patch_key, char_key = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    vectors = PatchDecoder(config).apply(
        variables("patch_decoder"),
        patches,
        segments,
        dropout_key is None,
        rngs=None if patch_key is None else {"dropout": patch_key},
    )
    mask = target_mask(patches, segments)
    total = char_nll_sum(
        config,
        variables("char_decoder"),
        jnp.asarray(vectors)[:, :-1],
        patches[:, 1:],
        mask,
        char_key,
    )
    return total, mask.sum().astype(jnp.float32)


def nll(
    config: ModelConfig,
    params: Any,
    patches: jax.Array,
    segments: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    adapters: Any = None,
) -> jax.Array:
    """Mean negative log-likelihood per target character over the whole batch, nats (paper eq. 1).

    A token mean, not a mean of per-piece means. A batch without targets gives 0.
    """
    total, count = nll_sum(config, params, patches, segments, dropout_key, adapters)
    return total / jnp.maximum(count, 1.0)


def log_probability(
    config: ModelConfig,
    params: Any,
    patches: jax.Array,
    dropout_key: jax.Array | None = None,
    adapters: Any = None,
) -> jax.Array:
    """Log-probability (nats) of each row's whole sequence, float32 (B,) for patches (B, P, 16).

    The sum over all target characters, metadata included, as CLaMP-DPO needs it (paper section 3.4).
    A dropout key turns dropout on; None is evaluation.
    """
    log_probs, _ = char_log_probs(config, params, patches, None, dropout_key, adapters)
    return log_probs.sum(axis=(1, 2))
