"""The parameters of a training run, opened from its folder.

A run folder holds `model.json` and `checkpoints/STEP/params`, written by an Orbax
`CheckpointManager` beside the optimizer and the data position, which are not read here. Where it also
holds `adapter.json`, the parameters are adapters.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from notagen_jax.checkpoints.adapters import ADAPTER_FILE, Adapters, read_adapted
from notagen_jax.checkpoints.checkpoint import Checkpoint, StoredCheckpoint, read_labels
from notagen_jax.checkpoints.layout import Layout, tree_shapes, unstack
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.config_file import CONFIG_REMEDY
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.lora import adapter_shapes

MODEL_FILE = "model.json"
STEPS_FOLDER = "checkpoints"
PARAMS_ITEM = "params"
ITEMS = (PARAMS_ITEM, "optimizer", "position")
"""What every whole checkpoint holds."""
METRIC = "held_out"
"""The metric, least is best, that a run keeps with a checkpoint saved after an evaluation."""


def run_of(path: Path) -> tuple[Path, str | None] | None:
    """The run folder and step that `path` names: a run, its checkpoints or one step; else None."""
    if (path / MODEL_FILE).is_file():
        return path, None
    if path.name == STEPS_FOLDER and (path.parent / MODEL_FILE).is_file():
        return path.parent, None
    if path.parent.name == STEPS_FOLDER and (path.parent.parent / MODEL_FILE).is_file():
        return path.parent.parent, path.name
    return None


def trains_adapters(path: Path) -> bool:
    """Whether `path` names a training run of adapters."""
    place = run_of(path.absolute())
    return place is not None and (place[0] / ADAPTER_FILE).is_file()


def whole_steps(run: Path) -> list[int]:
    """The steps of a run whose checkpoints are whole, in order.

    Orbax gives a checkpoint its name when all of it is written; a folder that lost a part since, or
    was copied halfway, does not count either.
    """
    return sorted(
        int(path.name)
        for path in (run / STEPS_FOLDER).glob("*")
        if path.name.isdecimal()
        and (path / "_CHECKPOINT_METADATA").is_file()
        and all((path / item).is_dir() for item in ITEMS)
    )


def load_training(
    path: str | os.PathLike[str], step: int | str | None = None, labelled: bool = True
) -> Checkpoint:
    """Load the parameters of a training run, float32 numpy arrays.

    `step` is a step number, "last" (as None) or "best", the least held-out loss;
    without `labelled` the run's labels are not read. Raises `NotaGenError` when the run has no such
    checkpoint or it cannot be read, or it trains adapters (see `load_run_adapters`).
    """
    config, params, source, _ = read_run(path, step)
    return Checkpoint(config, params, source, read_labels(source.parent.parent) if labelled else None)


def open_training(
    path: str | os.PathLike[str],
    step: int | str | None = None,
    labelled: bool = True,
    layouts: Sequence[Layout] = (NOTAGEN,),
) -> StoredCheckpoint:
    """Open a training run of any of the families `layouts` as official tensors; else as `load_training`."""
    config, params, source, layout = read_run(path, step, layouts)
    labels = read_labels(source.parent.parent) if labelled else None
    return StoredCheckpoint(config, unstack(layout.official_tensors(config), params), source, labels, layout)


def read_run(
    path: str | os.PathLike[str], step: int | str | None = None, layouts: Sequence[Layout] = (NOTAGEN,)
) -> tuple[Any, dict[str, Any], Path, Layout]:
    """Configuration, parameters, step folder and family of a training run; raises as `load_training`."""
    run, source = _place(path, step)
    if (run / ADAPTER_FILE).is_file():
        raise NotaGenError(f"{run}: a run of adapters, which make a model only when merged with their base")
    text = read_text(run / MODEL_FILE, CONFIG_REMEDY)
    layout = _family(text, layouts)
    config = layout.read_config(text, str(run / MODEL_FILE))
    params = _restore(source / PARAMS_ITEM, tree_shapes(layout.official_tensors(config)))
    return config, params, source, layout


def load_run_adapters(
    path: str | os.PathLike[str], step: int | str | None = None, labelled: bool = True
) -> Adapters:
    """Load the adapters of a training run that trains adapters; `step` and errors as in `load_training`."""
    run, source = _place(path, step)
    adapted = read_adapted(run / ADAPTER_FILE)
    tree = _restore(source / PARAMS_ITEM, adapter_shapes(adapted.model, adapted.lora))
    return Adapters(adapted, tree, source, read_labels(run) if labelled else None)


def _place(path: str | os.PathLike[str], step: int | str | None) -> tuple[Path, Path]:
    """The run folder and the folder of the wanted checkpoint."""
    place = run_of(Path(path).absolute())
    if place is None:
        raise NotaGenError(f"{path}: no {MODEL_FILE}, so not a training run; give its --run folder")
    run, named = place
    return run, run / STEPS_FOLDER / str(_choose(run, named if step is None else step))


def _family(text: str, layouts: Sequence[Layout]) -> Layout:
    """The family whose sizes the configuration states; the first one where none fits, for its message."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    known = set(fields) if isinstance(fields, dict) else set()
    return next((layout for layout in layouts if known.issuperset(layout.sizes)), layouts[0])


def _orbax() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise NotaGenError(
            "training runs are read with orbax-checkpoint, which is not installed; run "
            '`pip install "notagen-jax[train]"`'
        ) from error
    return ocp


def _choose(run: Path, step: int | str | None) -> int:
    """The number of the wanted checkpoint; raises `NotaGenError` when the run does not have it."""
    ocp = _orbax()
    folder = run / STEPS_FOLDER
    if not folder.is_dir():
        raise NotaGenError(f"{run}: no checkpoints yet; train until the first one is saved")
    steps = whole_steps(run)
    if not steps:
        raise NotaGenError(f"{run}: no whole checkpoint yet; train until the first one is saved")
    if step in (None, "last"):
        return steps[-1]
    if step == "best":
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[METRIC], best_mode="min", read_only=True
        )
        with ocp.CheckpointManager(folder, options=options) as manager:
            losses = {number: found[METRIC] for number in steps if (found := manager.metrics(number))}
        if not losses:
            raise NotaGenError(f"{run}: no checkpoint was evaluated, so none is best; use step last")
        return min(losses, key=losses.__getitem__)
    if str(step).isdecimal() and int(step) in steps:
        return int(step)
    raise NotaGenError(
        f"{run}: no checkpoint of step {step}; there are {', '.join(map(str, steps))} (or say best, last)"
    )


def _restore(folder: Path, shapes: dict[str, Any]) -> dict[str, Any]:
    """The parameter tree of these shapes in `folder`, read onto the host whatever devices wrote it."""
    import jax

    ocp = _orbax()
    expected = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray, dtype=np.float32), expected)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            params = checkpointer.restore(
                folder, args=ocp.args.PyTreeRestore(expected, restore_args=arguments)
            )
    except (OSError, ValueError, KeyError) as error:
        raise NotaGenError(
            f"{folder}: cannot read the parameters ({error}); the checkpoint is damaged, take another step"
        ) from error
    wrong = [
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} is {np.shape(leaf)}, expected {like.shape}"
        for (path, leaf), like in zip(
            jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(expected), strict=True
        )
        if np.shape(leaf) != like.shape
    ]
    if wrong:
        raise NotaGenError(f"{folder}: not the sizes in {MODEL_FILE}: {'; '.join(wrong)}")
    return params
