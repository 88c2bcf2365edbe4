"""Opening, saving and converting checkpoints.

`load` opens any of them by path: an official `.pth`, a converted directory, a training run, a folder
of adapters, or the name of the packaged model.
"""

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from notagen_jax.checkpoints.adapters import Adapters, is_adapters_folder, open_adapters
from notagen_jax.checkpoints.checkpoint import Checkpoint, StoredCheckpoint
from notagen_jax.checkpoints.directory import is_checkpoint_directory, open_directory, save
from notagen_jax.checkpoints.layout import Layout, unstack
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.checkpoints.pth import open_pth
from notagen_jax.checkpoints.training import (
    load_run_adapters,
    load_training,
    open_training,
    run_of,
    trains_adapters,
)
from notagen_jax.errors import NotaGenError

__all__ = [
    "FINETUNED",
    "PACKAGED",
    "Adapters",
    "Checkpoint",
    "StoredCheckpoint",
    "load",
    "load_adapters",
    "load_training",
    "locate",
    "open_stored",
    "save",
]

PACKAGED = "mini"
"""Name of the model that comes with the package."""
FINETUNED = "mini-finetuned"
"""Name of what it was before CLaMP-DPO: the same model where the package has none that had it."""


def load(
    path: str | os.PathLike[str] | None = None,
    step: int | str | None = None,
    base: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Load a checkpoint into memory, float32 numpy arrays.

    `path` is an official `.pth` file, a converted directory, a training run (or one of its step
    folders; `step` a number, "last" or "best"), a folder of adapters, or "mini" or None for the
    packaged model; a file or folder of that name goes first. Adapters are merged with their base,
    which is `base` where it is no longer where they were trained. Raises `NotaGenError` naming the
    path and the remedy.
    """
    place = locate(path)
    if _holds_adapters(place):
        return _merged(load_adapters(place, step), base)
    _refuse_base(place, base)
    if place.is_dir() and not is_checkpoint_directory(place):
        return load_training(place, step)
    return open_stored(place, step).load()


def load_adapters(
    path: str | os.PathLike[str], step: int | str | None = None, labelled: bool = True
) -> Adapters:
    """Load adapters alone: a folder of them, or a training run of them (`step` as in `load`).

    Raises `NotaGenError` when `path` holds none.
    """
    place = locate(path)
    if is_adapters_folder(place):
        if step is not None:
            raise NotaGenError(
                f"{place}: holds one set of adapters, so there is no step {step}; leave it out"
            )
        return open_adapters(place, labelled)
    if not trains_adapters(place):
        raise NotaGenError(f"{place}: holds no adapters; give a folder of them or a run that trains them")
    return load_run_adapters(place, step, labelled)


def open_stored(
    path: str | os.PathLike[str] | None,
    step: int | str | None = None,
    mapped: bool = False,
    labelled: bool = True,
    layouts: Sequence[Layout] = (NOTAGEN,),
    packaged: str = PACKAGED,
    base: str | os.PathLike[str] | None = None,
) -> StoredCheckpoint:
    """Open a checkpoint to read its official tensors one at a time; paths as in `load`.

    `mapped` reads the tensors of a directory as mapped pages of its file; without `labelled` its
    labels are not read; `layouts` are the families of models that are wanted, `packaged` the name of
    the one that comes with the package. Raises `NotaGenError` as `load`.
    """
    place = locate(path, packaged)
    if _holds_adapters(place):
        model = _merged(load_adapters(place, step, labelled), base)
        read = unstack(NOTAGEN.official_tensors(model.config), model.params)
        return StoredCheckpoint(model.config, read, model.source, model.labels)
    _refuse_base(place, base)
    if place.is_dir() and not is_checkpoint_directory(place):
        return open_training(place, step, labelled, layouts)
    if step is not None:
        raise NotaGenError(f"{place}: holds one model, so there is no step {step}; leave the step out")
    if place.is_dir():
        return open_directory(place, mapped, labelled, layouts)
    return open_pth(place, layouts)


def names_packaged(path: str | os.PathLike[str] | None, name: str = PACKAGED) -> bool:
    """Whether `path` means the packaged model `name`, as None does; a file or folder of that name goes first.

    `FINETUNED` means a packaged model too, where `name` is `PACKAGED`.
    """
    names = (name, FINETUNED) if name == PACKAGED else (name,)
    return path is None or (str(path) in names and not Path(path).exists())


def locate(path: str | os.PathLike[str] | None, name: str = PACKAGED) -> Path:
    """The file or folder that `path` names, None and `name` the packaged model of that name.

    Raises `NotaGenError` when it is none of the known kinds of checkpoint.
    """
    place = Path(name if path is None else path)
    if names_packaged(path, name):
        folder = Path(str(resources.files("notagen_jax") / "packaged"))
        packaged = folder / place if is_checkpoint_directory(folder / place) else folder / name
        if not is_checkpoint_directory(packaged):
            raise NotaGenError(
                f"{packaged}: the packaged model is missing; install notagen-jax again, or name a checkpoint"
            )
        return packaged
    if not place.exists():
        raise NotaGenError(
            f"{place}: no such file or folder; give an official .pth file, a converted directory, "
            f"a training run, a folder of adapters, or {name}"
        )
    known = is_checkpoint_directory(place) or is_adapters_folder(place)
    if place.is_dir() and not known and run_of(place.absolute()) is None:
        weights = sorted(place.glob("*.pth"))
        hint = f"; name the file in it: {weights[0]}" if weights else ""
        raise NotaGenError(
            f"{place}: neither a converted checkpoint (config.json, model.safetensors) "
            f"nor a training run (model.json) nor adapters (adapter.json, adapters.safetensors){hint}"
        )
    if place.suffix == ".safetensors" and is_checkpoint_directory(place.parent):
        return place.parent
    return place


def _holds_adapters(place: Path) -> bool:
    return place.is_dir() and (is_adapters_folder(place) or trains_adapters(place))


def _merged(adapters: Adapters, base: str | os.PathLike[str] | None) -> Checkpoint:
    """Adapters merged with their base, which is found where they were trained unless given."""
    try:
        model = load(adapters.adapted.base if base is None else base)
    except NotaGenError as error:
        raise NotaGenError(f"{adapters.source}: the model that these adapters adapt: {error}") from error
    return adapters.merged(model)


def _refuse_base(place: Path, base: str | os.PathLike[str] | None) -> None:
    if base is not None:
        raise NotaGenError(f"{place}: holds a whole model, so it has no base {base}; leave the base out")
