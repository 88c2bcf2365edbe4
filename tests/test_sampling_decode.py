"""Cached decoding against the full forward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.model import NotaGen, init_params
from notagen_jax.patches import BEGIN_PATCH, EOS, PAD
from notagen_jax.sampling import decode

CONFIG = ModelConfig(hidden_size=128, patch_layers=3, char_layers=2, patch_length=160)
LENGTH = 150


@pytest.fixture(scope="module")
def params():
    # Matrices and tables larger than at the start of training, as trained ones are: attention is far
    # from uniform, and logits are far from zero. Norms stay as they are.
    fresh = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda a: 3 * a if np.std(a) > 0 else a, jax.device_get(fresh))


@pytest.fixture(scope="module")
def patches():
    drawn = np.random.default_rng(0).integers(1, 128, (2, LENGTH, PATCH_SIZE), np.uint8)
    drawn[:, 0] = BEGIN_PATCH
    return drawn


@functools.partial(jax.jit, static_argnames=("config", "block"))
def patch_logits_then_extend(config, block, weights, cache, patch, position):
    """Logits (B, 16, 128) of `patch` from the cache before it, and the cache after it."""

    def one_char(carry, i):
        x, chars = carry
        logits, chars = decode.char_step(config, weights, x, i, chars)
        return (decode._embed_chars(config, weights, patch[:, i]), chars), logits

    start = (cache.vector, decode.empty_char_cache(config, len(patch)))
    _, logits = jax.lax.scan(one_char, start, jnp.arange(PATCH_SIZE))
    going = jnp.ones(len(patch), bool)
    cache = decode.extend(config, block, weights, cache, patch, position, going)
    return logits.swapaxes(0, 1), cache


@functools.partial(jax.jit, static_argnames="config")
def full_forward(config, params, patches):
    return NotaGen(config).apply({"params": params}, patches)


def filled(config, block, weights, patches, lengths):
    """A cache that has read the first `lengths[row]` patches of each row."""
    cache = decode.empty_cache(config, len(patches), block)
    for row, length in enumerate(lengths):
        for start in range(0, length, decode.PREFILL_PATCHES):
            part = patches[row, start : min(start + decode.PREFILL_PATCHES, length)]
            padded = np.zeros((decode.PREFILL_PATCHES, PATCH_SIZE), np.uint8)
            padded[: len(part)] = part
            cache = decode.prefill(config, weights, cache, row, padded, start, len(part))
    return cache


@pytest.mark.parametrize("block", [decode.CPU_BLOCK, 160], ids=["blocks", "whole window"])
def test_cached_logits_equal_the_full_forward_pass_at_every_position(params, patches, block):
    full = np.asarray(full_forward(CONFIG, params, patches))
    assert full.std() > 0.5
    weights = decode.unstack(CONFIG, params)
    # Rows of different lengths; the longer one crosses from one block of the cache to the next.
    lengths = np.array([1, 40], np.int32)
    cache = filled(CONFIG, block, weights, patches, lengths)
    rows = np.arange(2)
    for step in range(LENGTH - 40):
        at = lengths + step
        logits, cache = patch_logits_then_extend(CONFIG, block, weights, cache, patches[rows, at], at)
        np.testing.assert_allclose(logits, full[rows, at - 1], atol=1e-5, rtol=0)


def test_cached_logits_in_bfloat16_stay_close_to_the_full_forward_pass(params, patches):
    config = CONFIG.replace(dtype="bfloat16")
    full = np.asarray(full_forward(config, params, patches[:, :9]))
    weights = decode.unstack(config, params)
    cache = filled(config, decode.CPU_BLOCK, weights, patches, [8, 8])
    at = np.array([8, 8], np.int32)
    logits, _ = patch_logits_then_extend(config, decode.CPU_BLOCK, weights, cache, patches[:, 8], at)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, full[:, 7], atol=0.1 * full.std(), rtol=0)


def test_greedy_patches_are_the_full_forward_pass_argmax(params, patches):
    weights = decode.unstack(CONFIG, params)
    block = decode.CPU_BLOCK
    lengths = np.array([3, 5], np.int32)
    cache = filled(CONFIG, block, weights, patches, lengths)
    rows = decode.Rows(
        length=lengths,
        active=np.ones(2, bool),
        begun=np.ones(2, bool),
        drawn=np.zeros(2, np.int32),
        key=np.zeros((2, 2), np.uint32),
        tail=np.zeros((2, PATCH_SIZE), np.uint8),
        tail_length=np.zeros(2, np.int32),
    )
    greedy = decode.Filters(1, 1.0, 1.0)
    _, rows, drawn, counts = decode.decode_chunk(CONFIG, block, weights, cache, rows, greedy, 8)
    assert counts.tolist() == [8, 8]
    assert rows.length.tolist() == [11, 13]
    for row, length in enumerate(lengths):
        piece = np.concatenate([patches[row, :length], drawn[row, : 11 - length]])[None]
        best = np.asarray(full_forward(CONFIG, params, piece)).argmax(-1)[0, length - 1 :]
        for patch, expected in zip(np.asarray(drawn[row]), best, strict=False):
            end = np.flatnonzero(patch == EOS)
            kept = end[0] + 1 if len(end) else PATCH_SIZE
            assert patch[:kept].tolist() == expected[:kept].tolist()
            assert (patch[kept:] == PAD).all()


def test_a_full_window_stops_its_row_alone(params, patches):
    weights = decode.unstack(CONFIG, params)
    lengths = np.array([CONFIG.patch_length - 3, 2], np.int32)
    cache = filled(CONFIG, decode.CPU_BLOCK, weights, patches[:, :2], [2, 2])
    rows = decode.Rows(
        length=lengths,
        active=np.ones(2, bool),
        begun=np.ones(2, bool),
        drawn=np.zeros(2, np.int32),
        key=np.arange(4, dtype=np.uint32).reshape(2, 2),
        tail=np.zeros((2, PATCH_SIZE), np.uint8),
        tail_length=np.zeros(2, np.int32),
    )
    filters = decode.Filters(9, 0.9, 1.2)
    results = decode.decode_chunk(CONFIG, decode.CPU_BLOCK, weights, cache, rows, filters, 8)
    _, rows, drawn, counts = results
    assert counts.tolist() == [3, 8]
    assert rows.length.tolist() == [CONFIG.patch_length, 10]
    assert (np.asarray(drawn)[0, 3:] == PAD).all()
