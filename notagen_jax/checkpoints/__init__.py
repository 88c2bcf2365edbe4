"""Opening, saving and converting checkpoints.

`load` opens any of them by path: an official `.pth`, a converted directory, a training run, or the
name of the packaged model.
"""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from notagen_jax.checkpoints.checkpoint import Checkpoint, StoredCheckpoint
from notagen_jax.checkpoints.directory import is_checkpoint_directory, open_directory, save
from notagen_jax.checkpoints.layout import Layout
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.checkpoints.pth import open_pth
from notagen_jax.checkpoints.training import load_training, open_training, run_of
from notagen_jax.errors import NotaGenError

__all__ = ["PACKAGED", "Checkpoint", "StoredCheckpoint", "load", "load_training", "open_stored", "save"]

PACKAGED = "mini"
"""Name of the model that comes with the package."""


def load(path: str | os.PathLike[str] | None = None, step: int | str | None = None) -> Checkpoint:
    """Load a checkpoint into memory, float32 numpy arrays.

    `path` is an official `.pth` file, a converted directory, a training run (or one of its step
    folders; `step` a number, "last" or "best"), or "mini" or None for the packaged model; a file
    or folder of that name goes first. Raises `NotaGenError` naming the path and the remedy.
    """
    place = locate(path, PACKAGED)
    if place.is_dir() and not is_checkpoint_directory(place):
        return load_training(place, step)
    return open_stored(place, step).load()


def open_stored(
    path: str | os.PathLike[str] | None,
    step: int | str | None = None,
    mapped: bool = False,
    labelled: bool = True,
    layouts: Sequence[Layout] = (NOTAGEN,),
    packaged: str = PACKAGED,
) -> StoredCheckpoint:
    """Open a checkpoint to read its official tensors one at a time; paths as in `load`.

    `mapped` reads the tensors of a directory as mapped pages of its file; without `labelled` its
    labels are not read; `layouts` are the families of models that are wanted, `packaged` the name of
    the one that comes with the package. Raises `NotaGenError` as `load`.
    """
    place = locate(path, packaged)
    if place.is_dir() and not is_checkpoint_directory(place):
        return open_training(place, step, labelled, layouts)
    if step is not None:
        raise NotaGenError(f"{place}: holds one model, so there is no step {step}; leave the step out")
    if place.is_dir():
        return open_directory(place, mapped, labelled, layouts)
    return open_pth(place, layouts)


def locate(path: str | os.PathLike[str] | None, name: str) -> Path:
    """The file or folder that `path` names, None and `name` the packaged model of that name.

    Raises `NotaGenError` when it is none of the known kinds of checkpoint.
    """
    place = Path(name if path is None else path)
    if path is None or (str(path) == name and not place.exists()):
        packaged = Path(str(resources.files("notagen_jax") / "packaged" / name))
        if not is_checkpoint_directory(packaged):
            raise NotaGenError(
                f"{packaged}: the packaged model is missing; install notagen-jax again, or name a checkpoint"
            )
        return packaged
    if not place.exists():
        raise NotaGenError(
            f"{place}: no such file or folder; give an official .pth file, a converted directory, "
            f"a training run, or {name}"
        )
    if place.is_dir() and not is_checkpoint_directory(place) and run_of(place.absolute()) is None:
        weights = sorted(place.glob("*.pth"))
        hint = f"; name the file in it: {weights[0]}" if weights else ""
        raise NotaGenError(
            f"{place}: neither a converted checkpoint (config.json, model.safetensors) "
            f"nor a training run (model.json){hint}"
        )
    if place.suffix == ".safetensors" and is_checkpoint_directory(place.parent):
        return place.parent
    return place
