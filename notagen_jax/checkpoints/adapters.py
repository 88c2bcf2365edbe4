"""LoRA adapters saved alone: a folder with `adapter.json` and `adapters.safetensors`.

`adapter.json` says what they adapt: the base checkpoint's path and a digest of its weights, so that
adapters are never merged with another model. `labels.json` may stand beside them. A training run of
adapters has an `adapter.json` too, with its adapters among its checkpoints.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from notagen_jax.checkpoints.checkpoint import LABELS_FILE, Checkpoint, Labels, labels_json, read_labels
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.lora import LoraConfig, adapter_shapes, merge

ADAPTER_FILE = "adapter.json"
ADAPTERS_WEIGHTS = "adapters.safetensors"
_REMEDY = "put the original file back, or train the adapters again"


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What adapters are made for."""

    lora: LoraConfig
    model: ModelConfig
    base: str
    """Path of the checkpoint that they adapt, or the name of the packaged model."""
    digest: str
    """Of the base's weights, by `weights_digest`."""

    def to_json(self) -> str:
        """Text of an `adapter.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Adapters in memory, beside the description of what they are made for."""

    adapted: Adapted
    tree: dict[str, Any]
    """As `notagen_jax.lora.init_adapters` makes it, float32 numpy arrays."""
    source: Path
    labels: Labels | None = None

    def merged(self, base: Checkpoint) -> Checkpoint:
        """The adapted model; raises `NotaGenError` when `base` holds not the weights that they adapt."""
        if weights_digest(base.params) != self.adapted.digest:
            raise NotaGenError(
                f"{self.source}: these adapters were trained on {self.adapted.base}, whose weights are not "
                f"those of {base.source}; give the checkpoint that they were trained on"
            )
        params = merge(base.params, self.tree, self.adapted.lora)
        return Checkpoint(base.config, params, self.source, self.labels)


def weights_digest(params: Mapping[str, Any]) -> str:
    """SHA-256 of float32 parameters, in the order of their names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf, np.float32).data)
    return digest.hexdigest()


def is_adapters_folder(path: Path) -> bool:
    """Whether `path` holds adapters saved alone."""
    return (path / ADAPTER_FILE).is_file() and (path / ADAPTERS_WEIGHTS).is_file()


def read_adapted(path: Path) -> Adapted:
    """Read an `adapter.json`; raises `NotaGenError` when it is anything else."""
    text = read_text(path, _REMEDY)
    try:
        fields = json.loads(text)
        lora = LoraConfig(**{**fields["lora"], "projections": tuple(fields["lora"]["projections"])})
        base, digest = fields["base"], fields["digest"]
        model = ModelConfig.from_json(json.dumps(fields["model"]), str(path))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotaGenError(f"{path}: not a description of adapters ({error!r}); {_REMEDY}") from error
    if not lora.rank or not isinstance(base, str) or not isinstance(digest, str):
        raise NotaGenError(f"{path}: not a description of adapters; {_REMEDY}")
    return Adapted(lora, model, base, digest)


def save_adapters(folder: Path, adapters: Adapters) -> None:
    """Write adapters to a folder; a reader sees the old ones, none, or the whole new ones.

    Raises `NotaGenError` when the folder holds other files than adapters, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not is_adapters_folder(folder):
        raise NotaGenError(f"{folder}: not empty and not a folder of adapters; choose another folder")
    (folder / ADAPTER_FILE).unlink(missing_ok=True)
    leaves = jax.tree_util.tree_leaves_with_path(adapters.tree)
    tensors = {_name(path): np.ascontiguousarray(leaf, np.float32) for path, leaf in leaves}
    write_atomic(folder / ADAPTERS_WEIGHTS, save_tensors(tensors))
    if adapters.labels is not None:
        write_atomic(folder / LABELS_FILE, labels_json(adapters.labels))
    write_atomic(folder / ADAPTER_FILE, adapters.adapted.to_json())


def open_adapters(folder: Path, labelled: bool = True) -> Adapters:
    """Read a folder of adapters; raises `NotaGenError` when a file is damaged or of other sizes."""
    adapted = read_adapted(folder / ADAPTER_FILE)
    path = folder / ADAPTERS_WEIGHTS
    try:
        tensors = load_tensors(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise NotaGenError(f"{path}: cannot read the adapters ({error}); {_REMEDY}") from error
    shapes = adapter_shapes(adapted.model, adapted.lora)
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes, is_leaf=lambda x: isinstance(x, tuple))
    expected = {_name(place): shape for place, shape in leaves}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise NotaGenError(f"{path}: not the adapters that {ADAPTER_FILE} describes ({wrong[0]}); {_REMEDY}")
    values = jax.tree_util.tree_unflatten(tree, [tensors[name].astype(np.float32) for name in expected])
    return Adapters(adapted, values, folder, read_labels(folder) if labelled else None)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
