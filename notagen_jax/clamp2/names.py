"""Official CLaMP 2 and M3 tensor names against this package's parameter tree: a pure mapping.

The official files hold Hugging Face modules: a BertModel and an XLMRobertaModel (linear weights are
(out, in), so transposed here) and, in an M3 file, a GPT-2 (its weights are (in, out), as in Flax).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from notagen_jax.checkpoints.layout import (
    Layout,
    OfficialTensor,
    Shape,
    check_shapes,
    count_layers,
)
from notagen_jax.checkpoints.names import gpt2_stack
from notagen_jax.clamp2.config import (
    MUSIC_TOKEN_TYPES,
    SIZES,
    TEXT_PAD,
    TEXT_TOKEN_TYPES,
    Clamp2Config,
)
from notagen_jax.clamp2.m3_patches import VOCABULARY
from notagen_jax.config import HEAD_SIZE
from notagen_jax.errors import NotaGenError

MUSIC, TEXT = "music_model", "text_model"
"""First parts of the names in a CLaMP 2 file."""
M3_MUSIC, M3_DECODER = "encoder", "decoder.base"
"""First parts of the names in an M3 file."""

_LAYER = (
    ("attention.self.query", "query", (0, 0)),
    ("attention.self.key", "key", (0, 0)),
    ("attention.self.value", "value", (0, 0)),
    ("attention.output.dense", "attention_out", (0, 0)),
    ("attention.output.LayerNorm", "attention_norm", (0,)),
    ("intermediate.dense", "mlp_in", (1, 0)),
    ("output.dense", "mlp_out", (0, 1)),
    ("output.LayerNorm", "mlp_norm", (0,)),
)
"""A BERT layer's modules: official name, ours, and shape of the weight (0: width, 1: intermediate)."""

_IGNORED = re.compile(r"embeddings\.(position_ids|token_type_ids)$|\.h\.\d+\.attn\.(bias|masked_bias)$")
"""Buffers that older Hugging Face versions stored with the parameters."""


def official_tensors(config: Clamp2Config) -> list[OfficialTensor]:
    """All tensors of an official CLaMP 2 (or M3) checkpoint of these sizes, in state-dict order."""
    width = config.hidden_size
    if config.decoder_layers:
        base = f"{M3_DECODER}.transformer"
        tied = f"{base}.wte.weight"
        return [
            *_music_tower(M3_MUSIC, config),
            OfficialTensor(tied, (VOCABULARY, width), ("decoder", "wte")),
            OfficialTensor(f"{base}.wpe.weight", (config.patch_size, width), ("decoder", "wpe")),
            *gpt2_stack(base, ("decoder", "stack"), config.decoder_layers, width),
            OfficialTensor(f"{M3_DECODER}.lm_head.weight", (VOCABULARY, width), (), tied_to=tied),
        ]
    return [
        *text_tower(config.sizes),
        *_linear("text_proj", ("text_projection",), config.feature_size, config.text_hidden_size),
        *_music_tower(MUSIC, config),
        *_linear("music_proj", ("music_projection",), config.feature_size, width),
    ]


def is_clamp2(names: Iterable[str]) -> bool:
    """Whether any tensor name is one of CLaMP 2's or M3's music tower."""
    return any(name.startswith((f"{MUSIC}.", f"{M3_MUSIC}.patch_embedding.")) for name in names)


def is_ignored(name: str) -> bool:
    """Whether a tensor is a known buffer that holds no parameter."""
    return _IGNORED.search(name) is not None


def config_from_shapes(shapes: Mapping[str, Shape], source: str | Path) -> Clamp2Config:
    """The sizes of the model whose official tensors have these shapes.

    Nothing is read out of the file name. The heads of the text tower follow from its width where
    heads of 64 fit, as in XLM-RoBERTa, else they are unknown. `source` names the file in errors.
    Raises `NotaGenError` naming every unknown, missing and misshapen tensor.
    """
    shapes = {name: tuple(shape) for name, shape in shapes.items() if not is_ignored(name)}
    if not is_clamp2(shapes):
        seen = ", ".join(sorted(shapes)[:3]) or "none at all"
        raise NotaGenError(
            f"{source}: no CLaMP 2 or M3 tensors (found {seen}); give the weights of CLaMP 2, "
            "not of NotaGen or another model"
        )
    is_m3 = not any(name.startswith(f"{MUSIC}.") for name in shapes)
    music = M3_MUSIC if is_m3 else MUSIC

    def size(name: str, axis: int) -> int:
        shape = shapes.get(name, ())
        return max(shape[axis], 1) if len(shape) > axis else 1

    width = size(f"{music}.patch_embedding.weight", 0)
    if width % HEAD_SIZE:
        raise NotaGenError(
            f"{source}: not the sizes of a CLaMP 2 model (width {width}, which is not a multiple of "
            f"{HEAD_SIZE}); the file is damaged or from another model"
        )
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "music_layers": count_layers(f"{music}.base.encoder.layer.", shapes),
        "intermediate_size": size(f"{music}.base.encoder.layer.0.intermediate.dense.weight", 0),
        "patch_size": size(f"{music}.patch_embedding.weight", 1) // VOCABULARY,
        "patch_length": size(f"{music}.base.embeddings.position_embeddings.weight", 0),
    }
    if is_m3:
        sizes["decoder_layers"] = count_layers(f"{M3_DECODER}.transformer.h.", shapes)
    else:
        words = f"{TEXT}.embeddings.word_embeddings.weight"
        text, positions = size(words, 1), size(f"{TEXT}.embeddings.position_embeddings.weight", 0)
        sizes |= {
            "feature_size": size("music_proj.weight", 0),
            "text_vocabulary": size(words, 0),
            "text_hidden_size": text,
            "text_layers": count_layers(f"{TEXT}.encoder.layer.", shapes),
            "text_intermediate_size": size(f"{TEXT}.encoder.layer.0.intermediate.dense.weight", 0),
            "text_positions": max(positions, TEXT_PAD + 2),
            "text_heads": 0 if text % HEAD_SIZE else text // HEAD_SIZE,
            "text_length": min(128, max(positions - TEXT_PAD - 1, 1)),
        }
    try:
        config = Clamp2Config(**sizes)
    except NotaGenError as error:
        raise NotaGenError(f"{source}: {error}; the file is damaged or from another model") from error
    kind = "M3" if is_m3 else "CLaMP 2"
    check_shapes(official_tensors(config), shapes, source, f"{kind} checkpoint of width {width}")
    return config


def text_tower(sizes: Mapping[str, int]) -> list[OfficialTensor]:
    """The tensors of the text tower, an XLM-RoBERTa, of sizes `TEXT_SIZES`."""
    width, inner = sizes["text_hidden_size"], sizes["text_intermediate_size"]
    words = f"{TEXT}.embeddings.word_embeddings.weight"
    return [
        OfficialTensor(words, (sizes["text_vocabulary"], width), ("text", "words")),
        *_encoder(
            TEXT, "text", (width, inner), sizes["text_layers"], sizes["text_positions"], TEXT_TOKEN_TYPES
        ),
    ]


def _music_tower(name: str, config: Clamp2Config) -> list[OfficialTensor]:
    width = config.hidden_size
    table = (width, config.patch_size * VOCABULARY)
    return [
        OfficialTensor(f"{name}.patch_embedding.weight", table, ("music", "table"), transposed=True),
        OfficialTensor(f"{name}.patch_embedding.bias", (width,), ("music", "bias")),
        # BERT's own token embedding; the tower is fed with patch embeddings instead.
        OfficialTensor(f"{name}.base.embeddings.word_embeddings.weight", (1, width), ()),
        *_encoder(
            f"{name}.base",
            "music",
            (width, config.intermediate_size),
            config.music_layers,
            config.patch_length,
            MUSIC_TOKEN_TYPES,
        ),
    ]


def _encoder(
    name: str, tower: str, widths: tuple[int, int], layers: int, positions: int, types: int
) -> list[OfficialTensor]:
    """All of a Hugging Face BERT after its word embedding; `widths`: model and feed-forward."""
    width = widths[0]
    tensors = [
        OfficialTensor(
            f"{name}.embeddings.position_embeddings.weight", (positions, width), (tower, "positions")
        ),
        OfficialTensor(
            f"{name}.embeddings.token_type_embeddings.weight", (types, width), (tower, "token_types")
        ),
        *_norm(f"{name}.embeddings.LayerNorm", (tower, "encoder", "norm"), width),
    ]
    for layer in range(layers):
        for module, ours, shape in _LAYER:
            full = f"{name}.encoder.layer.{layer}.{module}"
            path = (tower, "encoder", "layers", ours)
            if len(shape) == 1:
                tensors += _norm(full, path, width, layer)
            else:
                tensors += _linear(full, path, widths[shape[0]], widths[shape[1]], layer)
    # The pooler reads the first position alone; the features are means over all.
    return [
        *tensors,
        OfficialTensor(f"{name}.pooler.dense.weight", (width, width), ()),
        OfficialTensor(f"{name}.pooler.dense.bias", (width,), ()),
    ]


def _linear(
    name: str, path: tuple[str, ...], out: int, into: int, layer: int | None = None
) -> list[OfficialTensor]:
    return [
        OfficialTensor(f"{name}.weight", (out, into), (*path, "kernel"), layer, transposed=True),
        OfficialTensor(f"{name}.bias", (out,), (*path, "bias"), layer),
    ]


def _norm(name: str, path: tuple[str, ...], width: int, layer: int | None = None) -> list[OfficialTensor]:
    return [
        OfficialTensor(f"{name}.weight", (width,), (*path, "scale"), layer),
        OfficialTensor(f"{name}.bias", (width,), (*path, "bias"), layer),
    ]


def describe(config: Clamp2Config) -> str:
    """The sizes of a model in one line."""
    kind = "M3" if config.decoder_layers else "CLaMP 2"
    text = f", {config.text_layers} text layers of {config.text_hidden_size}" if config.has_text else ""
    return (
        f"{kind}: {config.parameters:,} parameters, {config.music_layers} music layers of "
        f"{config.hidden_size}{text}, segments of {config.patch_length} patches"
    )


CLAMP2 = Layout(
    model="CLaMP 2",
    holds=is_clamp2,
    config_from_shapes=config_from_shapes,
    official_tensors=official_tensors,
    read_config=Clamp2Config.from_json,
    sizes=SIZES,
    is_ignored=is_ignored,
    describe=describe,
)
