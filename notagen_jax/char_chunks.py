"""The character-level decoder's loss in chunks, each computed only as far as its patches are filled.

Patches hold 12 to 13 characters on average, and half of them are full. A decoder that runs over all 16
positions of every patch spends a sixth of its work, which is most of the model's, on pads. Here the
patches of each row are sorted by their fill and cut into chunks; a chunk is computed up to the narrowest
of `WIDTHS` that holds its fullest patch, and not at all when it is padding. Attention is causal, so the
loss stays the same.

The loss is a sum, so its gradient does not depend on what comes after it. Each chunk's gradient is
computed with its loss: nothing is kept for the backward pass or computed again in it, and only one
chunk's activations are in memory at any time.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.model import CharDecoder

WIDTHS = (6, 11, PATCH_SIZE)
"""Characters of a patch that a chunk may be computed to. Each is a program of its own to compile; what is
not full in music is filled about evenly, and three widths take most of what there is to gain."""


def fills(wanted: jax.Array) -> jax.Array:
    """Positions up to the last wanted character of each patch: int32 (…) of bool (…, 16)."""
    return jnp.max(jnp.where(wanted, jnp.arange(1, PATCH_SIZE + 1), 0), axis=-1)


def sorted_chunks(array: jax.Array, order: jax.Array, chunks: int) -> jax.Array:
    """Patches (B, T, …) put in `order`, int (B, T), and cut into equal chunks: (chunks, B·n, …).

    Each row is sorted on its own, so that rows on different devices stay there.
    """
    ordered = jnp.take_along_axis(array, order[..., None], axis=1)
    cut = ordered.reshape(array.shape[0], chunks, -1, array.shape[-1])
    return jnp.moveaxis(cut, 1, 0).reshape(chunks, -1, array.shape[-1])


def char_nll_sum(
    config: ModelConfig,
    variables: dict[str, Any],
    vectors: jax.Array,
    patches: jax.Array,
    wanted: jax.Array,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Sum of negative log-likelihoods (nats) of the wanted characters, float32 scalar.

    variables: of `CharDecoder(config)`: `params`, and `adapters` where the model has any
    vectors:   (B, T, H), what the patch-level decoder says about each patch
    patches:   uint8 (B, T, 16)
    wanted:    bool (B, T, 16), the target characters
    Computed in chunks of `config.char_chunk` patches of each row. Differentiable once, in reverse, by the
    vectors and by the adapters if there are any, else by the params: beside adapters these are constants.
    """
    length = patches.shape[1]
    chunks = -(-length // config.char_chunk)
    spare = ((0, 0), (0, -length % chunks), (0, 0))
    vectors, patches, wanted = (jnp.pad(array, spare) for array in (vectors, patches, wanted))
    order = jnp.argsort(-fills(wanted), axis=1)
    vectors, patches, wanted = (sorted_chunks(array, order, chunks) for array in (vectors, patches, wanted))
    keys = None if dropout_key is None else jax.random.split(dropout_key, chunks)
    trained = "adapters" if "adapters" in variables else "params"
    constants = {name: jax.lax.stop_gradient(tree) for name, tree in variables.items() if name != trained}
    return _sum_of_chunks(
        config, {trained: variables[trained]}, vectors, (constants, (patches, wanted, keys))
    )


def _narrow_nll(
    config: ModelConfig, width: int, trained: Any, vectors: jax.Array, constants: Any, fixed: Any
) -> jax.Array:
    """NLL of one chunk whose patches hold at most `width` characters."""
    patches, wanted, key = fixed
    patches, wanted = patches[:, :width], wanted[:, :width]
    rngs = None if key is None else {"dropout": key}
    decoder = CharDecoder(config.replace(remat=False))  # a chunk's activations are small enough to keep
    logits = jnp.asarray(decoder.apply({**trained, **constants}, vectors, patches, key is None, rngs=rngs))
    chosen = jnp.take_along_axis(logits, patches.astype(jnp.int32)[..., None], axis=-1)[..., 0]
    return jnp.where(wanted, jax.nn.logsumexp(logits, axis=-1) - chosen, 0.0).sum()


def _width_index(wanted: jax.Array) -> jax.Array:
    """0 for a chunk without targets, else 1 + the index in `WIDTHS` of the narrowest that holds it."""
    return jnp.searchsorted(jnp.array((0, *WIDTHS)), fills(wanted).max())


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_of_chunks(config: ModelConfig, trained: Any, vectors: jax.Array, fixed: Any) -> jax.Array:
    """Losses alone, for evaluation: vectors (chunks, n, H), fixed (constants, what each chunk has)."""
    constants, chunked = fixed

    def add(total: jax.Array, chunk: Any) -> tuple[jax.Array, None]:
        vectors, (patches, wanted, key) = chunk
        branches = [lambda *_: jnp.zeros(())]
        branches += [functools.partial(_narrow_nll, config, width) for width in WIDTHS]
        arguments = (trained, vectors, constants, (patches, wanted, key))
        return total + jax.lax.switch(_width_index(wanted), branches, *arguments), None

    return jax.lax.scan(add, jnp.zeros(()), (vectors, chunked))[0]


def _forward(config: ModelConfig, trained: Any, vectors: jax.Array, fixed: Any) -> Any:
    """The losses and their gradients, chunk by chunk."""
    constants, chunked = fixed

    def nothing(trained: Any, vectors: jax.Array, *_: Any) -> Any:
        return jnp.zeros(()), jax.tree.map(jnp.zeros_like, (trained, vectors))

    def add(carry: Any, chunk: Any) -> Any:
        vectors, (patches, wanted, key) = chunk
        branches = [nothing]
        branches += [
            jax.value_and_grad(functools.partial(_narrow_nll, config, width), argnums=(0, 1))
            for width in WIDTHS
        ]
        arguments = (trained, vectors, constants, (patches, wanted, key))
        loss, (by_trained, by_vectors) = jax.lax.switch(_width_index(wanted), branches, *arguments)
        return jax.tree.map(jnp.add, carry, (loss, by_trained)), by_vectors

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained))
    (total, by_trained), by_vectors = jax.lax.scan(add, zero, (vectors, chunked))
    return total, (by_trained, by_vectors)


def _backward(_: ModelConfig, gradients: Any, scale: jax.Array) -> Any:
    by_trained, by_vectors = jax.tree.map(lambda leaf: (scale * leaf).astype(leaf.dtype), gradients)
    return by_trained, by_vectors, None


_sum_of_chunks.defvjp(_forward, _backward)
