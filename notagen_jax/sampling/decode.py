"""Cached decoding on the device: the jitted programs, pure functions of (weights, cache, rows).

The patch-level cache lives for a window of a piece, the character-level cache for one patch. A row
of the batch is one piece; rows differ in length, prompt and seed and never look at each other.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from notagen_jax.config import HEAD_SIZE, PATCH_SIZE, ModelConfig
from notagen_jax.model import Block, CharDecoder, PatchDecoder, layer_norm, matmul_precision
from notagen_jax.patches import BOS, EOS, PAD
from notagen_jax.sampling.filters import draw, filter_probabilities

CHUNK_PATCHES = 16
"""Patches drawn by one call of `decode_chunk`: how often the host can show progress or stop."""
PREFILL_PATCHES = 32
"""Patches read by one call of `prefill`."""
CPU_BLOCK = 128
"""Cache positions read at once by patch-level attention on a CPU."""

_NORMS = ("ln_1", "ln_2", "ln_f")


class Weights(NamedTuple):
    """Parameters in the form that decoding reads: one tree for each layer, already in the compute type.

    Slicing a stacked array inside a loop copies it, and casting there reads it twice.
    """

    patch: dict[str, Any]
    """table, bias and wpe of the patch-level decoder."""
    patch_blocks: tuple[dict[str, Any], ...]
    patch_norm: dict[str, Any]
    char: dict[str, Any]
    """wte and wpe of the character-level decoder."""
    char_blocks: tuple[dict[str, Any], ...]
    char_norm: dict[str, Any]


class Cache(NamedTuple):
    """What the patch-level decoder remembers; given away to each program and handed back by it."""

    keys: tuple[jax.Array, ...]
    """For each layer (B, heads, positions, 64)."""
    values: tuple[jax.Array, ...]
    vector: jax.Array
    """(B, H): output at each row's last patch, which predicts its next one."""


class Rows(NamedTuple):
    """The small state of each row, numpy on the host between two programs."""

    length: Any
    """int32 (B,): patches in the window."""
    active: Any
    """bool (B,): the row holds a piece that has not ended."""
    begun: Any
    """bool (B,): its tune body has begun, so `[r:` is no longer forced to go on `0/`."""
    drawn: Any
    """int32 (B,): patches drawn since the piece's prompt, over all its windows."""
    key: Any
    """uint32 (B, 2): threefry key of the piece's seed."""
    tail: Any
    """uint8 (B, 16): the first characters of the next patch where they are already fixed."""
    tail_length: Any
    """int32 (B,): how many they are."""


class Filters(NamedTuple):
    """Scalars of `filter_probabilities`; traced, so changing them compiles nothing."""

    top_k: Any
    top_p: Any
    temperature: Any


def attention_block(config: ModelConfig) -> int:
    """Cache positions that patch-level attention reads at once.

    On a CPU short pieces should not pay for a whole window, so the loop over blocks stops at the
    longest row. An accelerator reads the window in one go: it has the bandwidth, and a loop of
    unknown length would make it wait for the host at every layer.
    """
    if jax.default_backend() == "cpu":
        return CPU_BLOCK
    return math.ceil(config.patch_length / PREFILL_PATCHES) * PREFILL_PATCHES


@functools.partial(jax.jit, static_argnames="config")
def unstack(config: ModelConfig, params: Any) -> Weights:
    """Split the scanned parameters of `NotaGen` into layers and cast them to the compute type."""
    dtype = jnp.dtype(config.dtype)

    def cast(tree: dict[str, Any]) -> dict[str, Any]:
        # Norms compute in float32 with float32 parameters in the full forward pass too.
        return {
            name: leaf if name in _NORMS else jax.tree.map(lambda a: a.astype(dtype), leaf)
            for name, leaf in tree.items()
        }

    def layers(stack: dict[str, Any], count: int) -> tuple[dict[str, Any], ...]:
        return tuple(cast(jax.tree.map(lambda a, i=i: a[i], stack["blocks"])) for i in range(count))

    patch, char = params["patch_decoder"], params["char_decoder"]
    return Weights(
        patch={name: patch[name] for name in ("table", "bias", "wpe")},
        patch_blocks=layers(patch["stack"], config.patch_layers),
        patch_norm=patch["stack"]["ln_f"],
        char={name: char[name].astype(dtype) for name in ("wte", "wpe")},
        char_blocks=layers(char["stack"], config.char_layers),
        char_norm=char["stack"]["ln_f"],
    )


@functools.partial(jax.jit, static_argnames=("config", "width", "block"))
def empty_cache(config: ModelConfig, width: int, block: int) -> Cache:
    """A cache for `width` rows; its positions are the window rounded up to whole blocks and prefills."""
    step = math.lcm(block, PREFILL_PATCHES)
    positions = math.ceil(config.patch_length / step) * step
    dtype = jnp.dtype(config.dtype)
    shape = (width, config.heads, positions, HEAD_SIZE)
    return Cache(
        keys=tuple(jnp.zeros(shape, dtype) for _ in range(config.patch_layers)),
        values=tuple(jnp.zeros(shape, dtype) for _ in range(config.patch_layers)),
        vector=jnp.zeros((width, config.hidden_size), dtype),
    )


@functools.partial(jax.jit, static_argnames="config", donate_argnames="cache")
def prefill(
    config: ModelConfig,
    weights: Weights,
    cache: Cache,
    row: jax.Array,
    patches: jax.Array,
    start: jax.Array,
    count: jax.Array,
) -> Cache:
    """Read patches of a prompt or window into one row of the cache.

    patches: uint8 (PREFILL_PATCHES, 16), of which the first `count` hold
    start:   int32, position of the first one, a multiple of PREFILL_PATCHES

    One row at a time, so that what a row remembers does not depend on the batch it rides in.
    """
    precision = matmul_precision(config.dtype)
    index = start + jnp.arange(PREFILL_PATCHES)
    x = _embed_patches(config, weights, patches, index)
    keys, values = list(cache.keys), list(cache.values)
    seen = jnp.arange(keys[0].shape[2]) <= index[:, None]
    for layer, params in enumerate(weights.patch_blocks):
        query, key, value = _project(config, params, x)
        at = (row, 0, start, 0)
        keys[layer] = lax.dynamic_update_slice(keys[layer], key.swapaxes(0, 1)[None], at)
        values[layer] = lax.dynamic_update_slice(values[layer], value.swapaxes(0, 1)[None], at)
        mine = lax.dynamic_index_in_dim(keys[layer], row, 0, keepdims=False)
        scores = jnp.einsum(
            "thd,hsd->hts", query, mine, precision=precision, preferred_element_type=jnp.float32
        )
        scores = jnp.where(seen, scores / math.sqrt(HEAD_SIZE), jnp.finfo(jnp.float32).min)
        mine = lax.dynamic_index_in_dim(values[layer], row, 0, keepdims=False)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(mine.dtype)
        attended = jnp.einsum("hts,hsd->thd", probabilities, mine, precision=precision)
        x = _finish(config, params, x, attended)
    last = _norm(config, weights.patch_norm, lax.dynamic_index_in_dim(x, count - 1, 0, keepdims=True))
    vector = lax.dynamic_update_slice(cache.vector, last, (row, 0))
    return Cache(tuple(keys), tuple(values), vector)


@functools.partial(jax.jit, static_argnames=("config", "block"), donate_argnames="cache")
def decode_chunk(
    config: ModelConfig,
    block: int,
    weights: Weights,
    cache: Cache,
    rows: Rows,
    filters: Filters,
    steps: jax.Array,
) -> tuple[Cache, Rows, jax.Array, jax.Array]:
    """Draw up to `steps` ≤ CHUNK_PATCHES patches for every row that goes on.

    A row stops at its end patch or when its window is full; the loop stops when all rows have.
    Returns the cache, the rows, the patches uint8 (B, CHUNK_PATCHES, 16), and how many of them each
    row drew, int32 (B,). The end patch is drawn and counted.
    """
    width = rows.length.shape[0]

    def goes_on(rows: Rows) -> jax.Array:
        return rows.active & (rows.length < config.patch_length)

    def more(carry: tuple) -> jax.Array:
        step, _, rows, _, _ = carry
        return (step < steps) & goes_on(rows).any()

    def body(carry: tuple) -> tuple:
        step, cache, rows, drawn, counts = carry
        going = goes_on(rows)
        patch = draw_patch(config, weights, cache.vector, rows, going, filters)
        cache = extend(config, block, weights, cache, patch, rows.length, going)
        drawn = lax.dynamic_update_slice(drawn, patch[:, None], (0, step, 0))
        ends = (patch[:, 0] == BOS) & (patch[:, 1] == EOS)
        rows = rows._replace(
            length=rows.length + going,
            active=rows.active & ~(going & ends),
            begun=rows.begun | (going & _starts_body(patch)),
            drawn=rows.drawn + going,
            tail_length=jnp.where(going, 0, rows.tail_length),
        )
        return step + 1, cache, rows, drawn, counts + going

    rows = jax.tree.map(jnp.asarray, rows)
    drawn = jnp.zeros((width, CHUNK_PATCHES, PATCH_SIZE), jnp.uint8)
    counts = jnp.zeros(width, jnp.int32)
    _, cache, rows, drawn, counts = lax.while_loop(more, body, (0, cache, rows, drawn, counts))
    return cache, rows, drawn, counts


def extend(
    config: ModelConfig,
    block: int,
    weights: Weights,
    cache: Cache,
    patch: jax.Array,
    position: jax.Array,
    going: jax.Array,
) -> Cache:
    """Run one patch of every row through the patch-level decoder.

    patch uint8 (B, 16) stands at `position` int32 (B,). Rows that are not `going` keep their vector;
    what is written for them lies beyond their length or in a row that is over.
    """
    x = _embed_patches(config, weights, patch, position)
    last = jnp.where(going, position, 0)
    keys, values = [], []
    for params, old_keys, old_values in zip(weights.patch_blocks, cache.keys, cache.values, strict=True):
        query, key, value = _project(config, params, x)
        keys.append(_write(old_keys, key, position))
        values.append(_write(old_values, value, position))
        x = _finish(config, params, x, attend_cache(query, keys[-1], values[-1], last, block))
    vector = jnp.where(going[:, None], _norm(config, weights.patch_norm, x), cache.vector)
    return Cache(tuple(keys), tuple(values), vector)


def attend_cache(
    query: jax.Array, keys: jax.Array, values: jax.Array, last: jax.Array, block: int
) -> jax.Array:
    """Attention of one position for each row over its cache, with a float32 softmax.

    query (B, heads, 64); keys, values (B, heads, S, 64), valid up to and including `last` int32 (B,).
    Returns (B, heads, 64). Reads blocks of `block` positions up to the longest row's; a block beyond
    a row's own length adds exact zeros, so other rows' lengths never change a row's numbers.
    """
    width, heads, positions, _ = keys.shape
    lowest = jnp.finfo(jnp.float32).min
    precision = matmul_precision(query.dtype)

    def scores_of(keys: jax.Array, start: jax.Array | int) -> jax.Array:
        scores = jnp.einsum(
            "bhd,bhsd->bhs", query, keys, precision=precision, preferred_element_type=jnp.float32
        )
        seen = start + jnp.arange(keys.shape[2]) <= last[:, None]
        return jnp.where(seen[:, None], scores / math.sqrt(HEAD_SIZE), lowest)

    if block >= positions:
        weights = jax.nn.softmax(scores_of(keys, 0), axis=-1).astype(values.dtype)
        return jnp.einsum("bhs,bhsd->bhd", weights, values, precision=precision)

    def add_block(i: jax.Array, carry: tuple) -> tuple:
        highest, total, mixed = carry
        at, shape = (0, 0, i * block, 0), (width, heads, block, HEAD_SIZE)
        scores = scores_of(lax.dynamic_slice(keys, at, shape), i * block)
        raised = jnp.maximum(highest, scores.max(-1))
        rescale = jnp.exp(highest - raised)
        weights = jnp.exp(scores - raised[..., None])
        part = jnp.einsum(
            "bhs,bhsd->bhd",
            weights.astype(values.dtype),
            lax.dynamic_slice(values, at, shape),
            precision=precision,
            preferred_element_type=jnp.float32,
        )
        return raised, total * rescale + weights.sum(-1), mixed * rescale[..., None] + part

    start = (
        jnp.full((width, heads), lowest),
        jnp.zeros((width, heads)),
        jnp.zeros((width, heads, HEAD_SIZE)),
    )
    _, total, mixed = lax.fori_loop(0, last.max() // block + 1, add_block, start)
    return (mixed / total[..., None]).astype(values.dtype)


def draw_patch(
    config: ModelConfig,
    weights: Weights,
    vector: jax.Array,
    rows: Rows,
    going: jax.Array,
    filters: Filters,
) -> jax.Array:
    """Draw the 16 characters of each row's next patch, uint8 (B, 16), from its vector (B, H).

    Everything after the first eos is pad; rows that are not `going` get pad alone. Character i of
    patch n of a piece is drawn with the number that (seed, n, i) gives, whatever else is in the batch.
    """
    uniforms = jax.vmap(_uniforms)(rows.key, rows.drawn)

    def more(carry: tuple) -> jax.Array:
        i, _, _, _, ended = carry
        return (i < PATCH_SIZE) & ~ended.all()

    def body(carry: tuple) -> tuple:
        i, x, cache, patch, ended = carry
        logits, cache = char_step(config, weights, x, i, cache)
        chosen = draw(filter_probabilities(logits, *filters), uniforms[:, i]).astype(jnp.uint8)
        chosen = jnp.where(i < rows.tail_length, rows.tail[:, i], chosen)
        first_bar = ~rows.begun & _starts_body(patch)
        chosen = jnp.where(first_bar & (i == 3), ord("0"), jnp.where(first_bar & (i == 4), ord("/"), chosen))
        chosen = jnp.where(ended, PAD, chosen).astype(jnp.uint8)
        patch = lax.dynamic_update_slice(patch, chosen[:, None], (0, i))
        return i + 1, _embed_chars(config, weights, chosen), cache, patch, ended | (chosen == EOS)

    patch = jnp.zeros((vector.shape[0], PATCH_SIZE), jnp.uint8)
    cache = empty_char_cache(config, vector.shape[0])
    start = (0, vector.astype(config.dtype), cache, patch, ~going)
    return lax.while_loop(more, body, start)[3]


def empty_char_cache(config: ModelConfig, width: int) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Keys and values of the character-level decoder, (B, heads, 16, 64) for each layer."""
    zeros = jnp.zeros((width, config.heads, PATCH_SIZE, HEAD_SIZE), config.dtype)
    return ((zeros, zeros),) * config.char_layers


def char_step(
    config: ModelConfig, weights: Weights, x: jax.Array, i: jax.Array, cache: tuple
) -> tuple[jax.Array, tuple]:
    """Logits float32 (B, 128) of character i, from the embedding x (B, H) of what stands before it."""
    x = x + weights.char["wpe"][i]
    last = jnp.broadcast_to(i, x.shape[:1])
    updated = []
    for params, (keys, values) in zip(weights.char_blocks, cache, strict=True):
        query, key, value = _project(config, params, x)
        keys = lax.dynamic_update_slice(keys, key[:, :, None], (0, 0, i, 0))
        values = lax.dynamic_update_slice(values, value[:, :, None], (0, 0, i, 0))
        updated.append((keys, values))
        x = _finish(config, params, x, attend_cache(query, keys, values, last, PATCH_SIZE))
    x = _norm(config, weights.char_norm, x)
    return _apply(CharDecoder(config), weights.char, x, method="logits"), tuple(updated)


def _uniforms(key: jax.Array, patch: jax.Array) -> jax.Array:
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.uniform(jax.random.fold_in(key, patch), (PATCH_SIZE,))


def _starts_body(patch: jax.Array) -> jax.Array:
    """Whether patches (B, 16) begin with `[r:`, bool (B,)."""
    return (patch[:, 0] == ord("[")) & (patch[:, 1] == ord("r")) & (patch[:, 2] == ord(":"))


def _embed_patches(config: ModelConfig, weights: Weights, patches: jax.Array, at: jax.Array) -> jax.Array:
    at = jnp.minimum(at, config.patch_length - 1)
    return _apply(PatchDecoder(config), weights.patch, patches, at, method="embed")


def _embed_chars(config: ModelConfig, weights: Weights, characters: jax.Array) -> jax.Array:
    return _apply(CharDecoder(config), weights.char, characters, method="embed")


def _project(config: ModelConfig, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _apply(Block(config, config.patch_layers), params, x, method="project")


def _finish(config: ModelConfig, params: Any, x: jax.Array, attended: jax.Array) -> jax.Array:
    return _apply(Block(config, config.patch_layers), params, x, attended, method="finish")


def _norm(config: ModelConfig, params: Any, x: jax.Array) -> jax.Array:
    return _apply(layer_norm(jnp.dtype(config.dtype)), params, x)


def _apply(module: nn.Module, params: Any, *inputs: jax.Array, method: str | None = None) -> Any:
    return module.apply({"params": params}, *inputs, method=method)


def _write(cache: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
    """Put new (B, heads, 64) into cache (B, heads, S, 64) at each row's own position (B,)."""

    def one(cache: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice(cache, new[:, None], (0, position, 0))

    return jax.vmap(one)(cache, new, position)
