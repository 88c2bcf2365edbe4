"""Official tensor names and layouts against this package's parameter tree: a pure mapping.

The official checkpoints hold two Hugging Face GPT-2 stacks, one tensor for each layer. Here the
blocks of a stack are scanned, so each of their parameters carries a leading layer axis. GPT-2's
`Conv1D` weights are (in, out) as in Flax; only the patch embedding, a linear layer on one-hots, is
stored transposed.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from notagen_jax.config import HEAD_SIZE, PATCH_SIZE, PRESETS, SIZES, VOCABULARY, ModelConfig
from notagen_jax.errors import NotaGenError

Shape = tuple[int, ...]
Reader = Callable[[str], np.ndarray]
"""Official tensor name → its array, in official layout, of any float type."""

PATCH_BASE = "patch_level_decoder.base"
CHAR_BASE = "char_level_decoder.base.transformer"
PATCH_EMBEDDING = "patch_level_decoder.patch_embedding.weight"
UNUSED = f"{PATCH_BASE}.wte.weight"
"""GPT-2's own token embedding of the patch-level stack, which is fed with patch vectors instead."""
TIED = "char_level_decoder.base.lm_head.weight"
TIED_TO = f"{CHAR_BASE}.wte.weight"

_IGNORED = re.compile(r"\.h\.\d+\.attn\.(bias|masked_bias)$")
"""Causal masks that older Hugging Face versions stored with the parameters."""
_LAYER = re.compile(rf"^(?:{re.escape(PATCH_BASE)}|{re.escape(CHAR_BASE)})\.h\.(\d{{1,4}})\.")

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


class OfficialTensor(NamedTuple):
    """One tensor of an official checkpoint and where it goes."""

    name: str
    shape: Shape
    path: tuple[str, ...]
    """Path in our parameter tree; empty for a tensor that has no parameter of its own."""
    layer: int | None = None
    """Index on the leading axis of our parameter, for a block's tensor."""
    transposed: bool = False


def official_tensors(config: ModelConfig) -> list[OfficialTensor]:
    """All tensors of an official checkpoint of these sizes, in the order of its state dict."""
    width = config.hidden_size

    def stack(base: str, decoder: str, layers: int) -> list[OfficialTensor]:
        blocks = [
            OfficialTensor(
                f"{base}.h.{layer}.{name}",
                tuple(width * units for units in shape),
                (decoder, "stack", "blocks", *path),
                layer,
            )
            for layer in range(layers)
            for name, path, shape in _BLOCK
        ]
        return [
            *blocks,
            OfficialTensor(f"{base}.ln_f.weight", (width,), (decoder, "stack", "ln_f", "scale")),
            OfficialTensor(f"{base}.ln_f.bias", (width,), (decoder, "stack", "ln_f", "bias")),
        ]

    table = (width, PATCH_SIZE * VOCABULARY)
    return [
        OfficialTensor(PATCH_EMBEDDING, table, ("patch_decoder", "table"), transposed=True),
        OfficialTensor("patch_level_decoder.patch_embedding.bias", (width,), ("patch_decoder", "bias")),
        OfficialTensor(UNUSED, (1, width), ()),
        OfficialTensor(f"{PATCH_BASE}.wpe.weight", (config.patch_length, width), ("patch_decoder", "wpe")),
        *stack(PATCH_BASE, "patch_decoder", config.patch_layers),
        OfficialTensor(TIED_TO, (VOCABULARY, width), ("char_decoder", "wte")),
        OfficialTensor(f"{CHAR_BASE}.wpe.weight", (PATCH_SIZE + 1, width), ("char_decoder", "wpe")),
        *stack(CHAR_BASE, "char_decoder", config.char_layers),
        OfficialTensor(TIED, (VOCABULARY, width), ()),
    ]


def is_ignored(name: str) -> bool:
    """Whether a tensor is a known buffer that holds no parameter (GPT-2's stored causal masks)."""
    return _IGNORED.search(name) is not None


def config_from_shapes(shapes: Mapping[str, Shape], source: str | Path) -> ModelConfig:
    """The sizes of the model whose official tensors have these shapes.

    Nothing is read out of the file name. `source` names the file in errors. Raises `NotaGenError`
    naming every unknown, missing and misshapen tensor.
    """
    shapes = {name: tuple(shape) for name, shape in shapes.items() if not is_ignored(name)}
    if not any(name.startswith(("patch_level_decoder.", "char_level_decoder.")) for name in shapes):
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
        patch_layers=_layers(PATCH_BASE, shapes),
        char_layers=_layers(CHAR_BASE, shapes),
        patch_length=max(window[0], 1) if window else 1,
    )
    expected = {tensor.name: tensor.shape for tensor in official_tensors(config)}
    problems = []
    missing = [name for name in expected if name not in shapes]
    unknown = [name for name in shapes if name not in expected]
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown: {', '.join(unknown)}")
    problems += [
        f"{name} is {shapes[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if problems:
        raise NotaGenError(
            f"{source}: not a whole NotaGen checkpoint of width {width}; {'; '.join(problems)}. "
            "Download or save the checkpoint again"
        )
    name = preset_name(config)
    return PRESETS[name] if name else config


def preset_name(config: ModelConfig) -> str | None:
    """Name of the preset that has these sizes, or None."""
    for name, preset in PRESETS.items():
        if all(getattr(preset, size) == getattr(config, size) for size in SIZES):
            return name
    return None


def stack_params(config: ModelConfig, read: Reader) -> dict[str, Any]:
    """Our parameter tree, float32 numpy arrays, from official tensors read one at a time.

    Each tensor goes straight into its place, so the peak is the tree and one tensor.
    """
    params: dict[str, Any] = {}
    layers = {"patch_decoder": config.patch_layers, "char_decoder": config.char_layers}
    for tensor in official_tensors(config):
        if not tensor.path:
            continue
        *folders, leaf = tensor.path
        node = params
        for folder in folders:
            node = node.setdefault(folder, {})
        shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
        if leaf not in node:
            stacked = shape if tensor.layer is None else (layers[tensor.path[0]], *shape)
            node[leaf] = np.empty(stacked, np.float32)
        place = node[leaf] if tensor.layer is None else node[leaf][tensor.layer]
        values = read(tensor.name)
        place[...] = values.T if tensor.transposed else values
    return params


def unstack_params(config: ModelConfig, params: Mapping[str, Any]) -> Reader:
    """The reader of a parameter tree's official tensors, each in official layout.

    The unused token embedding reads as zeros. Raises `NotaGenError` when `params` has not the tree
    and shapes of `config`.
    """
    places = {tensor.name: tensor for tensor in official_tensors(config)}
    layers = {"patch_decoder": config.patch_layers, "char_decoder": config.char_layers}
    leaves: dict[str, Any] = {}
    for tensor in places.values():
        if not tensor.path:
            continue
        node: Any = params
        for key in tensor.path:
            node = node.get(key) if isinstance(node, Mapping) else None
        shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
        expected = shape if tensor.layer is None else (layers[tensor.path[0]], *shape)
        found = None if node is None else tuple(np.shape(node))
        if found != expected:
            raise NotaGenError(
                f"parameters do not fit the model configuration: {'/'.join(tensor.path)} is {found}, "
                f"expected {expected}"
            )
        leaves[tensor.name] = node

    def read(name: str) -> np.ndarray:
        tensor = places[name]
        if name == UNUSED:
            return np.zeros(tensor.shape, np.float32)
        if name == TIED:
            return read(TIED_TO)
        values = np.asarray(leaves[name] if tensor.layer is None else leaves[name][tensor.layer])
        return values.T if tensor.transposed else values

    return read


def check_tied(read: Reader, source: str | Path) -> None:
    """Check that the output layer is the character embedding; raises `NotaGenError` if not.

    This model computes its logits with the embedding (paper section 3.1), so another output layer
    would be lost.
    """
    if not np.array_equal(read(TIED), read(TIED_TO)):
        raise NotaGenError(
            f"{source}: {TIED} differs from {TIED_TO}, but a NotaGen model ties them; "
            "the file is damaged or from another model"
        )


def _layers(base: str, names: Iterable[str]) -> int:
    """Layers of one stack, by the highest index (by their number when an index is out of all reason)."""
    found = {
        int(match[1]) for name in names if name.startswith(base) and (match := _LAYER.match(name)) is not None
    }
    if not found:
        return 1
    return max(found) + 1 if max(found) < 4 * len(found) + 4 else len(found)
