"""`notagen convert`: official PyTorch checkpoints to converted directories and back."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from notagen_jax.checkpoints import StoredCheckpoint


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint: official .pth file, converted directory or training run, to either form.

    Adapters, as a folder or a training run, are merged with the model that they adapt. Sizes are
    read from the tensors. PyTorch files need the `convert` extra: pip install "notagen-jax[convert]".
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to read: a .pth file, a converted directory, a training run, adapters, or mini."""
    target: Annotated[Path, tyro.conf.Positional]
    """Where to write: a name ending in .pth becomes an official file, any other a directory."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the written weights; bfloat16 halves the size and loses precision."""
    step: str | None = None
    """Checkpoint of a training run: best, last or a step number. Default: last."""
    base: str | None = None
    """Of adapters: the model that they adapt, where it is no longer where they were trained."""
    adapters: bool = False
    """Of a training run of adapters: write the adapters alone, not merged."""
    force: bool = False
    """Replace an existing .pth file, or write into a folder that holds other files."""


def run(options: Convert) -> int:
    """Convert and report; raises `NotaGenError` on a bad source or a target that is in the way."""
    from notagen_jax.checkpoints import directory, pth
    from notagen_jax.checkpoints.names import preset_name

    if options.adapters:
        return _write_adapters(options)
    to_file = options.target.suffix.lower() in pth.SUFFIXES
    if to_file:
        pth.check_writable(options.target, options.force)
    else:
        directory.check_replaceable(options.target, options.force)
    stored = _open(options, to_file)
    if to_file:
        pth.write_pth(options.target, stored, dtype=options.dtype, force=options.force)
    else:
        directory.write_directory(options.target, stored, dtype=options.dtype, force=options.force)
    config = stored.config
    preset = preset_name(config)
    print(f"read    {stored.source} ({_size(stored.source)})")
    print(f"wrote   {options.target} ({_size(options.target)}, {options.dtype})")
    print(
        f"model   {preset or 'no preset of these sizes'}: {config.parameters:,} parameters, "
        f"width {config.hidden_size}, {config.patch_layers} patch-level and {config.char_layers} "
        f"character-level layers, window of {config.patch_length} patches"
    )
    return 0


def _open(options: Convert, to_file: bool) -> "StoredCheckpoint":
    """The source, without labels where those are damaged: its weights are worth converting.

    Raises `NotaGenError` on any other damage, and when the labels would be lost by converting a
    directory in place.
    """
    from notagen_jax import checkpoints
    from notagen_jax.checkpoints.checkpoint import LabelsError

    if to_file:  # holds weights only
        return checkpoints.open_stored(options.source, options.step, True, False, base=options.base)
    try:
        return checkpoints.open_stored(options.source, options.step, base=options.base)
    except LabelsError as error:
        stored = checkpoints.open_stored(options.source, options.step, labelled=False, base=options.base)
        if stored.source.resolve() == options.target.resolve():
            raise
        print(f"notagen: warning: {error}; converted without labels", file=sys.stderr)
        return stored


def _write_adapters(options: Convert) -> int:
    """Write the adapters of the source to a folder of their own; raises `NotaGenError` if there are none."""
    from notagen_jax import checkpoints
    from notagen_jax.checkpoints.adapters import save_adapters

    adapters = checkpoints.load_adapters(options.source, options.step)
    save_adapters(options.target, adapters)
    lora = adapters.adapted.lora
    print(f"read    {adapters.source} ({_size(adapters.source)})")
    print(f"wrote   {options.target} ({_size(options.target)}, float32)")
    print(f"adapts  {adapters.adapted.base}")
    print(f"lora    rank {lora.rank}, alpha {lora.alpha:g}, in {', '.join(lora.projections)}")
    return 0


def _size(path: Path) -> str:
    """Size of a file, or of the files of a folder, in binary megabytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = sum(file.stat().st_size for file in files if file.is_file())
    return f"{total / 2**20:,.1f} MiB"
