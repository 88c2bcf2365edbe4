"""The loss in chunks is the loss: values, gradients, padding, dropout; and what it leaves out."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax import char_chunks
from notagen_jax.char_chunks import WIDTHS, fills, sorted_chunks
from notagen_jax.config import ModelConfig
from notagen_jax.lora import LoraConfig, init_adapters, scaled
from notagen_jax.losses import nll_sum
from notagen_jax.model import dense_product, init_params
from notagen_jax.patches import encode_training

CONFIG = ModelConfig(64, 1, 2, 48, dropout=0.0, attention_dropout=0.0)
CHUNKED = CONFIG.replace(char_chunk=12)
DATA = Path(__file__).parent / "data"
OPTIONS = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
"""On a CPU compiling costs most of the time here, and what it optimises is not looked at."""


def packed_rows() -> tuple[np.ndarray, np.ndarray]:
    """A row of two pieces and padding, a full row, an empty row, of real music."""
    chorale, lied = (
        encode_training((DATA / f"reduced_{name}.abc").read_text(encoding="ascii"))
        for name in ("bach_bwv379", "schroter_geburtstag")
    )
    patches = np.zeros((3, 48, 16), np.uint8)
    segments = np.zeros((3, 48), np.int32)
    patches[0, :20], segments[0, :20] = chorale[:20], 1
    patches[0, 20:35], segments[0, 20:35] = lied[:15], 2
    patches[1], segments[1] = chorale[30:78], 1
    return patches, segments


PATCHES, SEGMENTS = packed_rows()


@pytest.fixture(scope="module")
def params() -> Any:
    """Weights large enough that every part of the model shows in its loss."""
    drawn = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda leaf: 4 * leaf, drawn)


@functools.cache
def compiled(config: ModelConfig) -> Any:
    """(params, patches, scale) → the scaled loss and its gradient."""

    def loss(params: Any, patches: Any, scale: Any) -> jax.Array:
        return scale * nll_sum(config, params, patches, SEGMENTS)[0]

    shapes = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    return jax.jit(jax.value_and_grad(loss)).lower(shapes, PATCHES, np.float32(1)).compile(OPTIONS)


def loss_and_grad(config: ModelConfig, params: Any, patches: Any = PATCHES, scale: float = 1.0) -> Any:
    return compiled(config)(params, patches, np.float32(scale))


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, leaf), like in pairs:
        error = np.abs(np.asarray(leaf) - like).max() / max(np.abs(like).max(), 1e-30)
        assert error <= tolerance, (jax.tree_util.keystr(path), error)


def test_loss_and_gradients_are_those_of_the_whole(params: Any):
    expected, gradients = loss_and_grad(CONFIG, params)
    found, chunked = loss_and_grad(CHUNKED, params)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert_close(chunked, gradients, 1e-5)
    evaluated, count = jax.jit(lambda params: nll_sum(CHUNKED, params, PATCHES, SEGMENTS))(params)
    assert float(evaluated) == pytest.approx(float(expected), rel=1e-6)
    assert count == sum(
        np.count_nonzero(piece) for piece in (PATCHES[0, 1:20], PATCHES[0, 21:], PATCHES[1, 1:])
    )
    # What the loss is used in scales its gradient.
    _, scaled = loss_and_grad(CHUNKED, params, scale=-2.5)
    assert_close(scaled, jax.tree.map(lambda leaf: -2.5 * leaf, gradients), 1e-5)


def test_adapters_are_trained_and_the_model_is_not(params: Any):
    lora = LoraConfig(rank=2, projections=("mlp_in",))
    drawn = init_adapters(CONFIG, lora, jax.random.key(1))
    drawn = jax.tree.map(lambda leaf: leaf + 0.05, drawn)

    def loss(config: ModelConfig, drawn: Any) -> jax.Array:
        return nll_sum(config, params, PATCHES, SEGMENTS, adapters=scaled(drawn, lora))[0]

    expected, found = (
        jax.jit(jax.value_and_grad(functools.partial(loss, config))).lower(drawn).compile(OPTIONS)(drawn)
        for config in (CONFIG, CHUNKED)
    )
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    assert_close(found[1], expected[1], 1e-5)


def test_what_stands_in_padding_changes_nothing(params: Any):
    garbage = np.where(SEGMENTS[..., None] > 0, PATCHES, 77).astype(np.uint8)
    for found, expected in zip(
        loss_and_grad(CHUNKED, params, garbage), loss_and_grad(CHUNKED, params), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_each_chunk_goes_as_far_as_its_fullest_patch():
    wanted = jnp.asarray(PATCHES[1:2] != 0)
    filled = np.asarray(fills(wanted))
    assert filled.tolist() == (PATCHES[1:2] != 0).sum(-1).tolist()
    chunks = sorted_chunks(wanted, jnp.argsort(-filled, axis=1), 4)
    assert chunks.shape == (4, 12, 16)
    fullest = [int(fills(chunk).max()) for chunk in chunks]
    assert fullest == np.sort(filled[0])[::-1][::12].tolist()
    chosen = [int(char_chunks._width_index(chunk)) for chunk in chunks]
    assert [(0, *WIDTHS)[index] for index in chosen] == [
        min(width for width in (0, *WIDTHS) if width >= fill) for fill in fullest
    ]
    assert char_chunks._width_index(jnp.zeros((12, 16), bool)) == 0


def test_dropout_follows_its_key(params: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(char_chunks, "WIDTHS", (16,))  # one program to compile
    config = CHUNKED.replace(dropout=0.5, attention_dropout=0.2)
    loss = jax.jit(lambda key: nll_sum(config, params, PATCHES, SEGMENTS, key)[0])
    first, again, second = (float(loss(jax.random.key(seed))) for seed in (1, 1, 2))
    assert first == again
    assert abs(first - second) > 1e-3 * first


def test_no_more_than_one_chunk_is_kept():
    whole, chunked = (compiled(config).memory_analysis().temp_size_in_bytes for config in (CONFIG, CHUNKED))
    assert chunked < 0.7 * whole


def test_products_on_a_cpu_have_the_gradients_of_products():
    rng = np.random.default_rng(0)
    x, kernel, cotangent = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 5, 8), (8, 6), (3, 5, 6))
    )
    dimensions = (((2,), (0,)), ((), ()))
    highest = jax.lax.Precision.HIGHEST
    expected, pull = jax.vjp(lambda x, k: jax.lax.dot_general(x, k, dimensions, highest), x, kernel)
    found, pull_ours = jax.vjp(lambda x, k: dense_product(x, k, dimensions, highest), x, kernel)
    np.testing.assert_array_equal(found, expected)
    for ours, theirs in zip(pull_ours(cotangent), pull(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
