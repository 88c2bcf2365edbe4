"""Official tensor names and layouts against this package's parameter tree: a pure mapping.

The official checkpoints hold two Hugging Face GPT-2 stacks, one tensor for each layer. Here the
blocks of a stack are scanned, so each of their parameters carries a leading layer axis. GPT-2's
`Conv1D` weights are (in, out) as in Flax; only the patch embedding, a linear layer on one-hots, is
stored transposed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from notagen_jax.checkpoints.layout import (
    Layout,
    OfficialTensor,
    Reader,
    Shape,
    check_shapes,
    count_layers,
    stack,
    unstack,
)
from notagen_jax.config import HEAD_SIZE, PATCH_SIZE, PRESETS, SIZES, VOCABULARY, ModelConfig
from notagen_jax.errors import NotaGenError

PATCH_BASE = "patch_level_decoder.base"
CHAR_BASE = "char_level_decoder.base.transformer"
PATCH_EMBEDDING = "patch_level_decoder.patch_embedding.weight"
UNUSED = f"{PATCH_BASE}.wte.weight"
"""GPT-2's own token embedding of the patch-level stack, which is fed with patch vectors instead."""
TIED = "char_level_decoder.base.lm_head.weight"
TIED_TO = f"{CHAR_BASE}.wte.weight"

_IGNORED = re.compile(r"\.h\.\d+\.attn\.(bias|masked_bias)$")
"""Causal masks that older Hugging Face versions stored with the parameters."""

_BLOCK = (
    ("ln_1.weight", ("ln_1", "scale"), (1,)),
    ("ln_1.bias", ("ln_1", "bias"), (1,)),
    ("attn.c_attn.weight", ("qkv", "kernel"), (1, 3)),
    ("attn.c_attn.bias", ("qkv", "bias"), (3,)),
    ("attn.c_proj.weight", ("attention_out", "kernel"), (1, 1)),
    ("attn.c_proj.bias", ("attention_out", "bias"), (1,)),
    ("ln_2.weight", ("ln_2", "scale"), (1,)),
    ("ln_2.bias", ("ln_2", "bias"), (1,)),
    ("mlp.c_fc.weight", ("mlp_in", "kernel"), (1, 4)),
    ("mlp.c_fc.bias", ("mlp_in", "bias"), (4,)),
    ("mlp.c_proj.weight", ("mlp_out", "kernel"), (4, 1)),
    ("mlp.c_proj.bias", ("mlp_out", "bias"), (1,)),
)
"""A block's official names, their paths in our blocks, and their shapes in units of H."""


def official_tensors(config: ModelConfig) -> list[OfficialTensor]:
    """All tensors of an official checkpoint of these sizes, in the order of its state dict."""
    width = config.hidden_size

    table = (width, PATCH_SIZE * VOCABULARY)
    return [
        OfficialTensor(PATCH_EMBEDDING, table, ("patch_decoder", "table"), transposed=True),
        OfficialTensor("patch_level_decoder.patch_embedding.bias", (width,), ("patch_decoder", "bias")),
        OfficialTensor(UNUSED, (1, width), ()),
        OfficialTensor(f"{PATCH_BASE}.wpe.weight", (config.patch_length, width), ("patch_decoder", "wpe")),
        *gpt2_stack(PATCH_BASE, ("patch_decoder", "stack"), config.patch_layers, width),
        OfficialTensor(TIED_TO, (VOCABULARY, width), ("char_decoder", "wte")),
        OfficialTensor(f"{CHAR_BASE}.wpe.weight", (PATCH_SIZE + 1, width), ("char_decoder", "wpe")),
        *gpt2_stack(CHAR_BASE, ("char_decoder", "stack"), config.char_layers, width),
        OfficialTensor(TIED, (VOCABULARY, width), (), tied_to=TIED_TO),
    ]


def gpt2_stack(base: str, path: tuple[str, ...], layers: int, width: int) -> list[OfficialTensor]:
    """The tensors of a Hugging Face GPT-2's blocks and final norm, whose `Stack` stands at `path`."""
    blocks = [
        OfficialTensor(
            f"{base}.h.{layer}.{name}",
            tuple(width * units for units in shape),
            (*path, "blocks", *ours),
            layer,
        )
        for layer in range(layers)
        for name, ours, shape in _BLOCK
    ]
    return [
        *blocks,
        OfficialTensor(f"{base}.ln_f.weight", (width,), (*path, "ln_f", "scale")),
        OfficialTensor(f"{base}.ln_f.bias", (width,), (*path, "ln_f", "bias")),
    ]


def is_ignored(name: str) -> bool:
    """Whether a tensor is a known buffer that holds no parameter (GPT-2's stored causal masks)."""
    return _IGNORED.search(name) is not None


def is_notagen(names: Iterable[str]) -> bool:
    """Whether any tensor name is a NotaGen model's."""
    return any(name.startswith(("patch_level_decoder.", "char_level_decoder.")) for name in names)


def config_from_shapes(shapes: Mapping[str, Shape], source: str | Path) -> ModelConfig:
    """The sizes of the model whose official tensors have these shapes.

    Nothing is read out of the file name. `source` names the file in errors. Raises `NotaGenError`
    naming every unknown, missing and misshapen tensor.
    """
    shapes = {name: tuple(shape) for name, shape in shapes.items() if not is_ignored(name)}
    if not is_notagen(shapes):
        seen = ", ".join(sorted(shapes)[:3]) or "none at all"
        raise NotaGenError(
            f"{source}: no NotaGen tensors (found {seen}); give the weights of a NotaGen model, "
            "not of CLaMP or another one"
        )
    widths = Counter(shape[0] for name, shape in shapes.items() if ".ln_" in name and len(shape) == 1)
    width = widths.most_common(1)[0][0] if widths else 0
    if width < 1 or width % HEAD_SIZE:
        raise NotaGenError(
            f"{source}: not the sizes of a NotaGen model (width {width}, which is not a multiple of "
            f"{HEAD_SIZE}); the file is damaged or from another model"
        )
    window = shapes.get(f"{PATCH_BASE}.wpe.weight", ())
    config = ModelConfig(
        hidden_size=width,
        patch_layers=count_layers(f"{PATCH_BASE}.h.", shapes),
        char_layers=count_layers(f"{CHAR_BASE}.h.", shapes),
        patch_length=max(window[0], 1) if window else 1,
    )
    check_shapes(official_tensors(config), shapes, source, f"NotaGen checkpoint of width {width}")
    name = preset_name(config)
    return PRESETS[name] if name else config


def preset_name(config: ModelConfig) -> str | None:
    """Name of the preset that has these sizes, or None."""
    for name, preset in PRESETS.items():
        if all(getattr(preset, size) == getattr(config, size) for size in SIZES):
            return name
    return None


def stack_params(config: ModelConfig, read: Reader) -> dict[str, Any]:
    """Our parameter tree, float32 numpy arrays, from official tensors read one at a time."""
    return stack(official_tensors(config), read)


def unstack_params(config: ModelConfig, params: Mapping[str, Any]) -> Reader:
    """The reader of a parameter tree's official tensors, each in official layout.

    The unused token embedding reads as zeros. Raises `NotaGenError` when `params` has not the tree
    and shapes of `config`.
    """
    return unstack(official_tensors(config), params)


def describe(config: ModelConfig) -> str:
    """The sizes of a model in one line."""
    return (
        f"{preset_name(config) or 'no preset of these sizes'}: {config.parameters:,} parameters, "
        f"width {config.hidden_size}, {config.patch_layers} patch-level and {config.char_layers} "
        f"character-level layers, window of {config.patch_length} patches"
    )


NOTAGEN = Layout(
    model="NotaGen",
    holds=is_notagen,
    config_from_shapes=config_from_shapes,
    official_tensors=official_tensors,
    read_config=ModelConfig.from_json,
    sizes=SIZES,
    is_ignored=is_ignored,
    describe=describe,
)
