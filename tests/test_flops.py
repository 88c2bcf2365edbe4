"""Counted operations against XLA's own count, and peaks of devices."""

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from notagen_jax.config import ModelConfig
from notagen_jax.flops import device_peak, forward_flops, train_flops
from notagen_jax.losses import nll
from notagen_jax.model import CharDecoder, PatchDecoder, init_params

# Wide enough that norms and softmax, which XLA counts and we do not, are a few percent; every block
# unrolled, because XLA counts the body of a loop once.
CONFIG = ModelConfig(768, 3, 2, 256, dropout=0.0, attention_dropout=0.0, unroll=3)
ROWS, LENGTH = 2, 128
PATCHES = jax.ShapeDtypeStruct((ROWS, LENGTH, 16), jnp.uint8)
PARAMS: Any = jax.eval_shape(functools.partial(init_params, CONFIG), jax.random.key(0))


def counted_by_xla(function: Any, *arguments: Any) -> float:
    """Operations of a function on arguments that are only shapes; nothing runs."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def test_each_decoder_agrees_with_xla():
    patch = counted_by_xla(
        lambda params, patches: PatchDecoder(CONFIG).apply({"params": params}, patches),
        PARAMS["patch_decoder"],
        PATCHES,
    )
    vectors = jax.ShapeDtypeStruct((ROWS * LENGTH, 768), jnp.float32)
    rows = jax.ShapeDtypeStruct((ROWS * LENGTH, 16), jnp.uint8)
    char = counted_by_xla(
        lambda params, vectors, rows: CharDecoder(CONFIG).apply({"params": params}, vectors, rows),
        PARAMS["char_decoder"],
        vectors,
        rows,
    )
    found = forward_flops(CONFIG, LENGTH)
    assert ROWS * LENGTH * found["patch"] == pytest.approx(patch, rel=0.03)
    assert ROWS * LENGTH * found["char"] == pytest.approx(char, rel=0.03)


def test_an_update_is_three_forward_passes():
    def loss(params: Any, patches: jax.Array) -> jax.Array:
        return nll(CONFIG, params, patches)

    counted = counted_by_xla(jax.value_and_grad(loss), PARAMS, PATCHES)
    found = train_flops(CONFIG, LENGTH)
    # The last patch's vector predicts nothing.
    expected = ROWS * (LENGTH * found["patch"] + (LENGTH - 1) * found["char"])
    assert expected == pytest.approx(counted, rel=0.05)


def test_only_characters_and_attention_depend_on_the_fill_and_the_length():
    whole, filled, longer = (
        forward_flops(CONFIG, *sizes) for sizes in ((LENGTH,), (LENGTH, 12.0), (2 * LENGTH,))
    )
    assert filled["patch"] == whole["patch"]
    assert filled["char"] < 0.75 * whole["char"]
    assert longer["char"] == whole["char"]
    assert longer["patch"] - whole["patch"] == 4 * LENGTH * 768 * CONFIG.patch_layers


def device(platform: str, kind: str) -> Any:
    return SimpleNamespace(platform=platform, device_kind=kind)


@pytest.mark.parametrize(
    ("platform", "kind", "bfloat16", "float32"),
    [
        ("gpu", "NVIDIA H100 80GB HBM3", 989.4e12, 66.9e12),
        ("gpu", "NVIDIA H200", 989.4e12, 66.9e12),
        ("gpu", "NVIDIA A100-SXM4-40GB", 312e12, 19.5e12),
        ("gpu", "NVIDIA L40S", 362e12, 91.6e12),
        ("gpu", "NVIDIA A10G", 70e12, 35e12),
        ("tpu", "TPU v5 lite", 197e12, 197e12 / 6),
        ("tpu", "TPU v5p", 459e12, 459e12 / 6),
    ],
)
def test_published_peaks(platform: str, kind: str, bfloat16: float, float32: float):
    assert device_peak(device(platform, kind), jnp.bfloat16) == (bfloat16, "published")
    assert device_peak(device(platform, kind), "float32") == (pytest.approx(float32), "published")


def test_a_cpu_is_measured_once():
    peak = device_peak(jax.devices("cpu")[0], "float32")
    assert peak.source == "measured"
    assert peak.flops > 1e8
    assert device_peak(jax.devices("cpu")[0], "float32") == peak
