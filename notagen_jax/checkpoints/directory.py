"""A converted checkpoint: a directory with `config.json` and `model.safetensors`.

The weights keep the official tensor names and layouts, so PyTorch reads the same file with
`load_state_dict(safetensors.torch.load_file(...))`. `labels.json` and `sampling.json` may stand beside
them.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from notagen_jax.checkpoints.advice import ADVICE_FILE, Advice, advice_json, read_advice
from notagen_jax.checkpoints.checkpoint import (
    LABELS_FILE,
    Checkpoint,
    StoredCheckpoint,
    labels_json,
    read_labels,
)
from notagen_jax.checkpoints.layout import Layout, check_tied
from notagen_jax.checkpoints.names import NOTAGEN, unstack_params
from notagen_jax.checkpoints.tensor_file import StoredType, TensorFile, write_tensors
from notagen_jax.config import ModelConfig
from notagen_jax.config_file import CONFIG_REMEDY
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.labels import Prompt

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_OWN_FILES = {CONFIG_FILE, WEIGHTS_FILE, LABELS_FILE, ADVICE_FILE}


def is_checkpoint_directory(path: Path) -> bool:
    """Whether `path` holds a converted checkpoint."""
    return (path / CONFIG_FILE).is_file() and (path / WEIGHTS_FILE).is_file()


def open_directory(
    directory: Path, mapped: bool = False, labelled: bool = True, layouts: Sequence[Layout] = (NOTAGEN,)
) -> StoredCheckpoint:
    """Open a converted checkpoint without reading its weights.

    `mapped` reads tensors as mapped pages of the file instead of copies; without `labelled` the labels
    and `sampling.json` are not read; `layouts` are the families of models that are wanted. Raises
    `NotaGenError` when a file is missing or damaged, or the weights are not of the configuration's sizes.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (directory / name).is_file():
            raise NotaGenError(
                f"{directory}: no {name}, so not a converted checkpoint; "
                "make one with `notagen convert WEIGHTS.pth DIRECTORY`"
            )
    tensors = TensorFile(directory / WEIGHTS_FILE)
    layout = next((layout for layout in layouts if layout.holds(tensors.shapes)), layouts[0])
    found = layout.config_from_shapes(tensors.shapes, tensors.path)
    description = directory / CONFIG_FILE
    config = layout.read_config(read_text(description, CONFIG_REMEDY), str(description))
    different = [
        f"{size} is {getattr(config, size)} in {CONFIG_FILE} and {getattr(found, size)} in {WEIGHTS_FILE}"
        for size in layout.sizes
        if getattr(config, size) != getattr(found, size)
    ]
    if different:
        raise NotaGenError(
            f"{directory}: {'; '.join(different)}; the two files belong to different models, convert again"
        )
    check_tied(layout.official_tensors(config), tensors.read, tensors.path, layout.model)
    labels = read_labels(directory) if labelled else None
    read = tensors.map if mapped else tensors.read
    advice = read_advice(directory) if labelled and layout is NOTAGEN else None
    return StoredCheckpoint(config, read, directory, labels, layout, advice)


def load(directory: str | os.PathLike[str]) -> Checkpoint:
    """Load a converted checkpoint, float32 whatever the type on disk.

    The peak is the parameters and one tensor. Raises `NotaGenError` as `open_directory`.
    """
    return open_directory(Path(directory)).load()


def save(
    directory: str | os.PathLike[str],
    config: ModelConfig,
    params: Mapping[str, Any],
    *,
    dtype: StoredType = "float32",
    labels: Sequence[Prompt] | None = None,
    advice: Advice | None = None,
    force: bool = False,
) -> None:
    """Write parameters as a converted checkpoint, whole or not at all.

    See `write_directory` for what may be replaced. Raises `NotaGenError` when the parameters do not
    fit `config` or the directory cannot be written.
    """
    known = None if labels is None else tuple(labels)
    stored = StoredCheckpoint(config, unstack_params(config, params), Path(directory), known, advice=advice)
    write_directory(Path(directory), stored, dtype=dtype, force=force)


def write_directory(
    directory: Path,
    stored: StoredCheckpoint,
    *,
    dtype: StoredType = "float32",
    force: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Write a converted checkpoint tensor by tensor, whole or not at all.

    `beside` holds further files by name, such as a tokenizer. An existing converted checkpoint is
    replaced; another folder that is not empty only with `force`, and its other files stay. Raises
    `NotaGenError` on refusal or when the folder cannot be written.
    """
    directory = directory.absolute().resolve()
    check_replaceable(directory, force)
    staging: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        finished = staging / directory.name
        finished.mkdir()
        # As bytes, so that line ends are the same whatever system writes them.
        (finished / CONFIG_FILE).write_bytes(stored.config.to_json().encode())
        if stored.labels is not None:
            (finished / LABELS_FILE).write_bytes(labels_json(stored.labels).encode())
        if stored.advice is not None:
            (finished / ADVICE_FILE).write_bytes(advice_json(stored.advice).encode())
        for name, content in (beside or {}).items():
            (finished / name).write_bytes(content)
        with open(finished / WEIGHTS_FILE, "wb") as stream:
            write_tensors(stream, stored.shapes, stored.read, dtype)
        _publish(finished, directory)
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotaGenError(
            f"{directory}: cannot write ({reason}); choose a folder that can be written"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def check_replaceable(directory: Path, force: bool) -> None:
    """Check that a checkpoint may be written to `directory`; raises `NotaGenError` if not."""
    if directory.exists() and not directory.is_dir():
        raise NotaGenError(f"{directory}: is a file; choose a folder for the checkpoint")
    if not directory.is_dir() or force or is_checkpoint_directory(directory):
        return
    if any(directory.iterdir()):
        raise NotaGenError(
            f"{directory}: not empty and not a checkpoint; choose another folder, or --force to add to it"
        )


def _publish(finished: Path, directory: Path) -> None:
    """Put the finished folder in place; files of the old one that are not a checkpoint's move over.

    No folder is ever moved over another, which Windows refuses even when that one is empty.
    """
    if not directory.is_dir():
        os.replace(finished, directory)
        return
    if not any(directory.iterdir()):
        directory.rmdir()
        os.replace(finished, directory)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    old = retired / directory.name
    try:
        os.replace(directory, old)
        try:
            os.replace(finished, directory)
        except OSError:
            os.replace(old, directory)
            raise
    except OSError:
        with contextlib.suppress(OSError):  # not empty if the old folder could not go back: keep it
            retired.rmdir()
        raise
    for entry in old.iterdir():
        if entry.name not in _OWN_FILES and not (directory / entry.name).exists():
            os.replace(entry, directory / entry.name)
    shutil.rmtree(retired)
