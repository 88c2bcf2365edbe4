"""From logits to the distribution that characters are drawn from (the official sampler's order)."""

import jax
import jax.numpy as jnp


def filter_probabilities(
    logits: jax.Array, top_k: jax.Array | int, top_p: jax.Array | float, temperature: jax.Array | float
) -> jax.Array:
    """Softmax, top-k, top-p, and temperature last, renormalised after each: float32 (B, V) of logits (B, V).

    top_k:       the k likeliest characters stay; of equal ones the lower code goes first
    top_p:       the smallest set of them whose mass reaches p stays; 1 keeps all
    temperature: what is left is raised to 1/T

    The three settings may be traced scalars, so other values need no other program. Ranks and
    masses come from comparing every pair of characters: for 128 of them that is cheaper than a sort
    and keeps exactly k when probabilities tie.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    code = jnp.arange(logits.shape[-1])
    mine, other = probabilities[:, :, None], probabilities[:, None, :]
    ahead = (other > mine) | ((other == mine) & (code[None, :] < code[:, None]))

    probabilities = jnp.where(ahead.sum(-1) < top_k, probabilities, 0.0)
    probabilities /= probabilities.sum(-1, keepdims=True)

    mass_ahead = jnp.where(ahead, probabilities[:, None, :], 0.0).sum(-1)
    # A sum rounded up to 1 must not cut the tail when nothing is to be cut.
    probabilities = jnp.where((mass_ahead < top_p) | (jnp.asarray(top_p) >= 1.0), probabilities, 0.0)

    # Relative to the largest, so that a small temperature cannot underflow every one of them. Dropped
    # characters stay at exactly 0.
    probabilities /= probabilities.max(-1, keepdims=True)
    probabilities = probabilities ** (1.0 / jnp.asarray(temperature, jnp.float32))
    return probabilities / probabilities.sum(-1, keepdims=True)


def draw(probabilities: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Draw by inverse CDF: probabilities float32 (B, V), uniforms float32 (B,) in [0, 1) → int32 (B,).

    A row's draw depends on that row alone; a character of probability 0 is never drawn.
    """
    size = probabilities.shape[-1]
    upto = jnp.tril(jnp.ones((size, size), bool))
    mass = jnp.where(upto, probabilities[:, None, :], 0.0).sum(-1)
    return (mass <= uniforms[:, None] * mass[:, -1:]).sum(-1, dtype=jnp.int32)
