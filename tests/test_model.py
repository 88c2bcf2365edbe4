"""The modules and their settings: sizes, compile size, remat, dropout, cuDNN attention, bfloat16, precision.

Where a setting shows in the program, the program is traced or lowered and not run.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.losses import nll
from notagen_jax.model import CharDecoder, NotaGen, PatchDecoder, causal_mask, init_params
from notagen_jax.sampling import decode

CONFIG = ModelConfig(64, 2, 1, 8, dropout=0.0, attention_dropout=0.0)
PATCHES: Any = np.random.default_rng(0).integers(3, 127, (2, 7, 16)).astype(np.uint8)
SEGMENTS: Any = np.array([[1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 1, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def params() -> Any:
    """Weights large enough that every part of the model shows in its loss."""
    drawn = jax.jit(init_params, static_argnums=0)(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda leaf: 6 * leaf, drawn)


def shapes_of(config: ModelConfig) -> Any:
    return jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))


def loss_and_grad(config: ModelConfig, key: jax.Array | None = None) -> Any:
    """The training program as a function of the parameters."""
    return jax.value_and_grad(lambda params: nll(config, params, PATCHES, dropout_key=key))


def program(config: ModelConfig, key: jax.Array | None = None) -> str:
    """The training program's text, lowered and not compiled."""
    return jax.jit(loss_and_grad(config, key)).lower(shapes_of(config)).as_text()


@pytest.mark.parametrize(
    ("name", "millions"), [("mini", 8.6), ("small", 109.6), ("medium", 243.7), ("large", 515.7)]
)
def test_parameters_of_the_presets(name: str, millions: float):
    config = PRESETS[name]
    counted = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(config)))
    assert config.parameters == counted
    assert round(counted / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100}, "hidden_size must be a multiple of 64, got 100"),
        ({"patch_layers": 0}, "patch_layers must be a positive integer, got 0"),
        ({"unroll": 0}, "unroll must be a positive integer, got 0"),
        ({"dropout": 1.0}, r"^model configuration: dropout .* in \[0, 1\), got 1.0"),
        ({"attention_dropout": -0.1}, r"attention_dropout .* in \[0, 1\), got -0.1"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16, got 'float16'"),
        ({"attention": "flash"}, "attention must be xla or cudnn, got 'flash'"),
        ({"attention": "cudnn"}, "cudnn attention needs dtype bfloat16 and attention_dropout 0"),
        (
            {"attention": "cudnn", "dtype": "bfloat16", "attention_dropout": 0.1},
            "cudnn attention needs dtype bfloat16 and attention_dropout 0",
        ),
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(NotaGenError, match=message):
        CONFIG.replace(**changes)


def test_initial_weights_are_gpt2s():
    drawn = jax.jit(init_params, static_argnums=0)(CONFIG.replace(patch_layers=8), jax.random.key(1))
    blocks = drawn["patch_decoder"]["stack"]["blocks"]
    for name, scale in {
        "qkv": 0.02,
        "mlp_in": 0.02,
        "attention_out": 0.02 / 4,
        "mlp_out": 0.02 / 4,
    }.items():
        assert blocks[name]["kernel"].std() == pytest.approx(scale, rel=0.02), name
        assert not blocks[name]["bias"].any()
    assert not np.array_equal(blocks["qkv"]["kernel"][0], blocks["qkv"]["kernel"][1])


def test_a_piece_longer_than_the_window_is_refused(params: Any):
    with pytest.raises(ValueError, match="9 patches exceed the model's window of 8"):
        NotaGen(CONFIG).apply({"params": params}, np.zeros((1, 9, 16), np.uint8))


def test_the_program_grows_with_unroll_and_not_with_depth():
    two, twenty = (len(program(CONFIG.replace(patch_layers=layers))) for layers in (2, 20))
    assert twenty == pytest.approx(two, rel=0.02)
    assert len(program(CONFIG.replace(patch_layers=20, unroll=5))) > 1.2 * twenty


def test_remat_recomputes_and_gives_the_same_gradients(params: Any):
    plain, remat = CONFIG, CONFIG.replace(remat=True)
    assert "remat" not in str(jax.make_jaxpr(loss_and_grad(plain))(params))
    assert "remat" in str(jax.make_jaxpr(loss_and_grad(remat))(params))
    # Recomputed, not kept: the backward pass multiplies more matrices.
    assert program(remat).count("dot_general") > program(plain).count("dot_general")
    (loss, gradients), (found, recomputed) = (jax.jit(loss_and_grad(c))(params) for c in (plain, remat))
    assert float(found) == pytest.approx(float(loss), rel=1e-6)
    for expected, gradient in zip(jax.tree.leaves(gradients), jax.tree.leaves(recomputed), strict=True):
        assert np.abs(gradient - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("rates", "places"),
    [
        ({"dropout": 0.5}, 6),  # in each decoder: the embeddings and a block's two residuals
        ({"attention_dropout": 0.5}, 2),
    ],
    ids=["dropout", "attention_dropout"],
)
def test_each_dropout_acts_with_a_key_and_only_then(params: Any, rates: dict[str, float], places: int):
    config = CONFIG.replace(**rates)
    assert program(config) == program(CONFIG)
    loss = jax.jit(lambda key: nll(config, params, PATCHES, dropout_key=key))
    assert draws(jax.make_jaxpr(loss)(jax.random.key(0)).jaxpr) == places
    first, again, second = (float(loss(jax.random.key(seed))) for seed in (1, 1, 2))
    assert first == again
    assert abs(first - second) > 1e-3 * first


def test_rates_of_zero_draw_nothing():
    traced = jax.make_jaxpr(loss_and_grad(CONFIG, jax.random.key(0)))(shapes_of(CONFIG))
    assert draws(traced.jaxpr) == 0


def draws(jaxpr: Any) -> int:
    """How often a program and the programs inside it draw random bits."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "random_bits"
        inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
        count += sum(draws(value) for value in inner if hasattr(value, "eqns"))
    return count


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one piece", "packed pieces"])
def test_cudnn_attention_serves_the_patch_level(params: Any, monkeypatch: pytest.MonkeyPatch, segments: Any):
    calls = []
    attention = jax.nn.dot_product_attention

    def substitute(query: jax.Array, key: jax.Array, value: jax.Array, **options: Any) -> jax.Array:
        calls.append((query.shape, str(query.dtype), options))
        return attention(query, key, value, **{**options, "implementation": "xla"})

    monkeypatch.setattr(jax.nn, "dot_product_attention", substitute)
    plain = CONFIG.replace(dtype="bfloat16")

    def logits(config: ModelConfig) -> np.ndarray:
        apply = jax.jit(lambda params: NotaGen(config).apply({"params": params}, PATCHES, segments))
        return np.asarray(apply(params))

    expected = logits(plain)
    assert not calls
    found = logits(plain.replace(attention="cudnn"))
    assert calls
    for shape, dtype, options in calls:
        # 7 patches: the 16 characters of a patch never come here.
        assert (shape, dtype) == ((2, 7, 1, 64), "bfloat16")
        assert options["implementation"] == "cudnn"
        if segments is None:
            assert options["is_causal"]
        else:
            np.testing.assert_array_equal(options["mask"].shape, causal_mask(7, segments).shape)
    # Both round to bfloat16 at the same places but one.
    assert np.abs(found - expected).max() <= 0.03 * np.abs(expected).max()


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(params: Any):
    config = CONFIG.replace(dtype="bfloat16")
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(shapes_of(config))} == {"float32"}
    assert "bf16" not in program(CONFIG)
    forward = jax.jit(lambda params: NotaGen(config).apply({"params": params}, PATCHES)).lower(params)
    products = [line for line in forward.as_text().splitlines() if "stablehlo.dot_general" in line]
    assert products
    for line in products:
        assert re.search(r"\(tensor<[^>]*xbf16>, tensor<[^>]*xbf16>\) ->", line), line
    logits = forward.out_info
    assert (logits.shape, str(logits.dtype)) == ((2, 6, 16, 128), "float32")
    loss, gradients = jax.jit(loss_and_grad(config))(params)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(gradients)} == {"float32"}
    assert float(loss) == pytest.approx(float(jax.jit(loss_and_grad(CONFIG))(params)[0]), rel=0.01)


def test_embeddings_are_rows_and_not_one_hot_products(params: Any):
    patch, char = params["patch_decoder"], params["char_decoder"]
    positions = np.array([3, 1, 4, 0, 5, 7, 2])
    embed = jax.jit(lambda p: PatchDecoder(CONFIG).apply({"params": p}, PATCHES, positions, method="embed"))
    one_hot = np.eye(128, dtype=np.float64)[PATCHES].reshape(2, 7, 2048)
    expected = one_hot @ np.float64(patch["table"]) + patch["bias"] + patch["wpe"][positions]
    np.testing.assert_allclose(embed(patch), expected, atol=1e-5)
    # Its gradient too: nothing but the table itself has a side of 2048 or 128.
    assert wide(gradient_program(PatchDecoder(CONFIG), patch, "__call__")) == {"2048x64xf32"}
    assert wide(gradient_program(CharDecoder(CONFIG), char, "embed")) == {"128x64xf32"}


def gradient_program(module: Any, params: Any, method: str) -> str:
    """The text of a gradient through one method of patches."""

    def total(params: Any) -> jax.Array:
        return jnp.square(module.apply({"params": params}, PATCHES, method=method)).sum()

    return jax.jit(jax.grad(total)).lower(params).as_text()


def wide(text: str) -> set[str]:
    """The tensor types in a program's text that have a side of 2048 or 128."""
    types = set(re.findall(r"tensor<([^>]*)>", text))
    return {name for name in types if {"2048", "128"} & set(name.split("x"))}


@pytest.mark.parametrize(("dtype", "exact"), [("float32", True), ("bfloat16", False)])
def test_float32_products_are_not_left_to_the_device(dtype: Any, exact: bool):
    """GPUs and TPUs round float32 operands unless a product says otherwise."""
    config = CONFIG.replace(dtype=dtype)
    texts = [program(config), *decoding_programs(config)]
    for text in texts:
        products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
        assert products
        assert {"precision = [HIGHEST, HIGHEST]" in line for line in products} == {exact}


def decoding_programs(config: ModelConfig) -> list[str]:
    """The texts of `prefill` and of `decode_chunk` by one block and by several."""
    weights = jax.eval_shape(functools.partial(decode.unstack, config), shapes_of(config))
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    rows = decode.Rows(
        length=np.ones(2, np.int32),
        active=np.ones(2, bool),
        begun=np.zeros(2, bool),
        drawn=np.zeros(2, np.int32),
        key=np.zeros((2, 2), np.uint32),
        tail=np.zeros((2, 16), np.uint8),
        tail_length=np.zeros(2, np.int32),
    )
    filters = decode.Filters(np.int32(9), np.float32(0.9), np.float32(1.2))
    texts = []
    for block in (16, decode.PREFILL_PATCHES):
        cache = jax.eval_shape(functools.partial(decode.empty_cache, config, 2, block))
        lowered = decode.decode_chunk.lower(config, block, weights, cache, rows, filters, scalar)
        texts.append(lowered.as_text())
    window = jax.ShapeDtypeStruct((decode.PREFILL_PATCHES, 16), jnp.uint8)
    lowered = decode.prefill.lower(config, weights, cache, scalar, window, scalar, scalar)
    return [*texts, lowered.as_text()]
