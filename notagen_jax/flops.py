"""Floating-point operations of the two decoders, and what a device could do at most.

The character-level decoder runs once for every patch and is 76–84 % of the arithmetic, so the usual
6·N·tokens is wrong here; the two are counted apart. A multiply and an add are two operations. Matrix
products count, attention over the whole square of positions included, as is customary for MFU (PaLM,
arXiv:2204.02311, appendix B) and as XLA counts; norms, softmax and the rows of embedding tables do not.
"""

import functools
import re
import time
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from notagen_jax.config import PATCH_SIZE, VOCABULARY, ModelConfig
from notagen_jax.model import matmul_precision

TRAINING = 3
"""Forward and backward pass in forward passes: each product's gradient takes two products as large."""

HIGHEST_ON_TPU = 6
"""bfloat16 passes that a TPU makes of one float32 product at the highest precision."""


class Peak(NamedTuple):
    """The most that a device can do."""

    flops: float
    """Operations a second in matrix products."""
    source: Literal["published", "measured"]
    """From the vendor's data sheet (dense), or by a large matrix product on this very device."""


# Dense bfloat16 products accumulated in float32, and float32 products off the tensor cores, in 10^12 a
# second, for each JAX device; by words in `device_kind`, the first that fits.
_GPUS: tuple[tuple[str, float, float], ...] = (
    ("GB200", 2500, 80),
    ("B200", 2250, 75),
    ("H200", 989.4, 66.9),
    ("GH200", 989.4, 66.9),
    ("H100 PCIe", 756, 51),
    ("H100 NVL", 835, 60),
    ("H100", 989.4, 66.9),
    ("H800", 989.4, 66.9),
    ("H20", 148, 44),
    ("A100", 312, 19.5),
    ("A800", 312, 19.5),
    ("A10G", 70, 35),
    ("A10", 125, 31.2),
    ("A40", 149.7, 37.4),
    ("L40S", 362, 91.6),
    ("L40", 181, 90.5),
    ("L4", 121, 30.3),
    ("RTX 4090", 165.2, 82.6),
    ("RTX 3090", 71, 35.6),
)
_TPUS: tuple[tuple[str, float], ...] = (
    ("TPU v6", 918),
    ("TPU v5 lite", 197),
    ("TPU v5e", 197),
    ("TPU v5", 459),
    ("TPU v4 lite", 138),
    ("TPU v4", 275),
    ("TPU v3", 61.5),
    ("TPU v2", 22.5),
)


def forward_flops(config: ModelConfig, length: int, characters: float = PATCH_SIZE) -> dict[str, float]:
    """Operations of one forward pass for each patch, by decoder: `patch` and `char`.

    length:     patches of a row, which the patch-level attention grows with
    characters: positions that the character-level decoder computes of each patch; all 16, or the mean
                fill for what real characters alone need
    """
    width = config.hidden_size
    block = 24 * width**2  # queries, keys and values 6, attention's output 2, the two of the MLP 16
    patch = config.patch_layers * (block + 4 * length * width)
    position = config.char_layers * (block + 4 * characters * width) + 2 * VOCABULARY * width
    return {"patch": float(patch), "char": float(characters * position)}


def train_flops(config: ModelConfig, length: int, characters: float = PATCH_SIZE) -> dict[str, float]:
    """Operations of one update for each patch, by decoder; what rematerialisation repeats is not counted."""
    forward = forward_flops(config, length, characters)
    return {name: TRAINING * count for name, count in forward.items()}


def device_peak(device: jax.Device, dtype: Any) -> Peak:
    """The peak of one device in matrix products of `dtype` (float32 or bfloat16).

    Published figures of GPUs and TPUs; float32 is full float32, as this package computes it. A CPU, or a
    device that is in no table, is measured.
    """
    exact = jnp.dtype(dtype) == jnp.float32
    if device.platform == "tpu":
        for name, rate in _TPUS:
            if device.device_kind.startswith(name):
                return Peak(rate * 1e12 / (HIGHEST_ON_TPU if exact else 1), "published")
    elif device.platform != "cpu":
        for name, rate, exact_rate in _GPUS:
            if re.search(rf"\b{name}\b", device.device_kind):
                return Peak((exact_rate if exact else rate) * 1e12, "published")
    return _measured_once(device, jnp.dtype(dtype).name)


@functools.cache
def _measured_once(device: jax.Device, dtype: str) -> Peak:
    return measured_peak(device, dtype)


def measured_peak(device: jax.Device, dtype: Any) -> Peak:
    """Operations a second of the fastest of several large matrix products on a device, as it is now.

    Other work on the machine makes it smaller.
    """
    size = 1536 if device.platform == "cpu" else 8192
    matrix = jax.device_put(jnp.full((size, size), 1 / size, dtype), device)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=matmul_precision(dtype)))
    jax.block_until_ready(multiply(matrix))
    fastest = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(multiply(matrix))
        fastest = min(fastest, time.perf_counter() - began)
    return Peak(2 * size**3 / fastest, "measured")
