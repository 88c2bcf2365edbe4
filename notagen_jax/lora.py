"""Low-rank adapters (Hu et al., arXiv:2106.09685): small matrices trained beside a frozen model.

A projection x·W becomes x·W + (alpha / rank) · (x·down)·up. The adapters of a model are a tree
{decoder: {"stack": {"blocks": {projection: {"down", "up"}}}}}, the place of their projections in the
parameter tree, with a leading layer axis. All functions here are pure.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError

Projection = Literal["qkv", "attention_out", "mlp_in", "mlp_out"]

PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

_WIDTHS: dict[str, tuple[int, int]] = {
    "qkv": (1, 3),
    "attention_out": (1, 1),
    "mlp_in": (1, 4),
    "mlp_out": (4, 1),
}
"""Inputs and outputs of each projection, in units of the hidden size."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which adapters are trained, if any."""

    rank: int = 0
    """Inner size of every adapter; 0 trains the model itself."""
    alpha: float = 32.0
    """The adapters' product is scaled by alpha / rank."""
    projections: tuple[Projection, ...] = PROJECTIONS
    """Projections of each block, in both decoders, that get an adapter."""
    base_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type in which training holds the frozen model."""

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or self.rank < 0:
            raise NotaGenError(f"lora.rank must be a whole number from 0, got {self.rank}")
        if not 0 < self.alpha < math.inf:
            raise NotaGenError(f"lora.alpha must be above 0, got {self.alpha}")
        unknown = sorted(set(self.projections) - set(PROJECTIONS))
        if unknown or not self.projections:
            given = ", ".join(unknown) or "none given"
            raise NotaGenError(f"lora.projections: {given}; choose from {', '.join(PROJECTIONS)}")

    @property
    def scale(self) -> float:
        """What the product of a pair is multiplied by."""
        return self.alpha / self.rank


def adapter_shapes(config: ModelConfig, lora: LoraConfig) -> dict[str, Any]:
    """The tree of adapters with (layers, in, rank) and (layers, rank, out) in place of its arrays."""

    def blocks(layers: int) -> dict[str, Any]:
        pairs = {}
        for name in PROJECTIONS:
            if name in lora.projections:
                inputs, outputs = (units * config.hidden_size for units in _WIDTHS[name])
                pairs[name] = {"down": (layers, inputs, lora.rank), "up": (layers, lora.rank, outputs)}
        return {"stack": {"blocks": pairs}}

    return {"patch_decoder": blocks(config.patch_layers), "char_decoder": blocks(config.char_layers)}


def init_adapters(config: ModelConfig, lora: LoraConfig, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 adapters: `down` normal with variance 1 / in, `up` zero, so that nothing changes yet."""
    shapes = adapter_shapes(config, lora)
    leaves, tree = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
    paths = [
        path[-1].key
        for path, _ in jax.tree_util.tree_leaves_with_path(
            shapes, is_leaf=lambda node: isinstance(node, tuple)
        )
    ]
    drawn = [
        jax.random.normal(part, shape) / math.sqrt(shape[1]) if name == "down" else jnp.zeros(shape)
        for name, shape, part in zip(paths, leaves, jax.random.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)


def scaled(adapters: Any, lora: LoraConfig) -> Any:
    """The adapters as the model's collection `adapters`: the scale inside `up`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * lora.scale if path[-1].key == "up" else leaf, adapters
    )


def merge(params: Mapping[str, Any], adapters: Any, lora: LoraConfig) -> dict[str, Any]:
    """Parameters whose kernels hold W + (alpha / rank) · down·up; each keeps its type, the rest is shared.

    Works on numpy and JAX arrays; the products are float32.
    """
    merged: dict[str, Any] = dict(params)
    for decoder, tree in adapters.items():
        blocks = dict(params[decoder]["stack"]["blocks"])
        for name, pair in tree["stack"]["blocks"].items():
            kernel = blocks[name]["kernel"]
            product = lora.scale * (pair["down"] @ pair["up"])
            blocks[name] = {**blocks[name], "kernel": (kernel + product).astype(kernel.dtype)}
        merged[decoder] = {**params[decoder], "stack": {**params[decoder]["stack"], "blocks": blocks}}
    return merged
