"""A pre-trained XLM-RoBERTa from its published folder, to start a text tower from."""

from pathlib import Path
from typing import Any

from notagen_jax.checkpoints.layout import check_shapes, count_layers, stack
from notagen_jax.checkpoints.tensor_file import TensorFile
from notagen_jax.clamp2.config import TEXT_SIZES
from notagen_jax.clamp2.names import TEXT, is_ignored, text_tower
from notagen_jax.errors import NotaGenError

WEIGHTS_FILE = "model.safetensors"
_PREFIX = "roberta."
"""What the published file puts before the encoder's names; the language-model head has others."""


def read_xlm_roberta(folder: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes (`TEXT_SIZES`) and parameters of a text tower, float32, from an XLM-RoBERTa folder.

    The language-model head is left out; a missing pooler, which nothing reads, is no fault. Raises
    `NotaGenError` when there is no `model.safetensors`, or its tensors are not XLM-RoBERTa's.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise NotaGenError(f"{folder}: no {WEIGHTS_FILE}; give the folder of XLM-RoBERTa as published")
    tensors = TensorFile(path)
    prefixed = any(name.startswith(_PREFIX) for name in tensors.shapes)
    names = {
        f"{TEXT}.{name.removeprefix(_PREFIX)}": name
        for name in tensors.shapes
        if name.startswith(_PREFIX if prefixed else ("embeddings.", "encoder.", "pooler."))
        and not is_ignored(name)
    }
    shapes = {ours: tensors.shapes[name] for ours, name in names.items()}

    def size(name: str, axis: int) -> int:
        shape = shapes.get(f"{TEXT}.{name}", ())
        return shape[axis] if len(shape) > axis else 1

    sizes = dict(
        zip(
            TEXT_SIZES,
            (
                size("embeddings.word_embeddings.weight", 0),
                size("embeddings.word_embeddings.weight", 1),
                count_layers(f"{TEXT}.encoder.layer.", shapes),
                size("encoder.layer.0.intermediate.dense.weight", 0),
                size("embeddings.position_embeddings.weight", 0),
            ),
            strict=True,
        )
    )
    used = [tensor for tensor in text_tower(sizes) if tensor.path]
    present = {name: shape for name, shape in shapes.items() if ".pooler." not in name}
    check_shapes(used, present, path, f"XLM-RoBERTa of width {sizes['text_hidden_size']}")
    return sizes, stack(used, lambda name: tensors.read(names[name]))["text"]
