"""`notagen convert`: official PyTorch checkpoints to converted directories and back."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from notagen_jax.errors import NotaGenError

if TYPE_CHECKING:
    from notagen_jax.checkpoints import StoredCheckpoint


@dataclass(frozen=True)
class Convert:
    """Convert a checkpoint: official .pth file, converted directory or training run, to either form.

    NotaGen, CLaMP 2 and M3 models are told apart by their tensors, and sizes read from them. Adapters,
    as a folder or a training run, are merged with the model that they adapt. PyTorch files need the
    `convert` extra: pip install "notagen-jax[convert]".
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Checkpoint to read: a .pth file, a converted directory, a training run, adapters, mini, or judge."""
    target: Annotated[Path, tyro.conf.Positional]
    """Where to write: a name ending in .pth becomes an official file, any other a directory."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the written weights; bfloat16 halves the size and loses precision."""
    step: str | None = None
    """Checkpoint of a training run: best, last or a step number. Default: last."""
    tokenizer: Path | None = None
    """CLaMP 2 to a directory: folder of its text model (XLM-RoBERTa's), whose tokenizer is kept with it."""
    base: str | None = None
    """Of adapters: the model that they adapt, where it is no longer where they were trained."""
    adapters: bool = False
    """Of a training run of adapters: write the adapters alone, not merged."""
    force: bool = False
    """Replace an existing .pth file, or write into a folder that holds other files."""


def run(options: Convert) -> int:
    """Convert and report; raises `NotaGenError` on a bad source or a target that is in the way."""
    from notagen_jax.checkpoints import directory, pth

    if options.adapters:
        return _write_adapters(options)
    to_file = options.target.suffix.lower() in pth.SUFFIXES
    if to_file:
        pth.check_writable(options.target, options.force)
    else:
        directory.check_replaceable(options.target, options.force)
    stored, beside = _with_tokenizer(options, _open(options, to_file), to_file)
    if to_file:
        pth.write_pth(options.target, stored, dtype=options.dtype, force=options.force)
    else:
        directory.write_directory(
            options.target, stored, dtype=options.dtype, force=options.force, beside=beside
        )
    print(f"read    {stored.source} ({_size(stored.source)})")
    print(f"wrote   {options.target} ({_size(options.target)}, {options.dtype})")
    print(f"model   {stored.layout.describe(stored.config)}")
    return 0


def _open(options: Convert, to_file: bool) -> "StoredCheckpoint":
    """The source, without labels where those are damaged: its weights are worth converting.

    Raises `NotaGenError` on any other damage, and when the labels would be lost by converting a
    directory in place.
    """
    from notagen_jax import checkpoints
    from notagen_jax.checkpoints.advice import read_advice
    from notagen_jax.checkpoints.checkpoint import LabelsError
    from notagen_jax.checkpoints.names import NOTAGEN
    from notagen_jax.clamp2.load import JUDGE
    from notagen_jax.clamp2.names import CLAMP2

    packaged = JUDGE if str(options.source) == JUDGE else checkpoints.PACKAGED

    def opened(labelled: bool = True, mapped: bool = False) -> "StoredCheckpoint":
        return checkpoints.open_stored(
            options.source,
            options.step,
            mapped,
            labelled,
            base=options.base,
            layouts=(NOTAGEN, CLAMP2),
            packaged=packaged,
        )

    if to_file:  # holds weights only
        return opened(mapped=True, labelled=False)
    try:
        return opened()
    except LabelsError as error:
        stored = opened(labelled=False)
        if stored.source.resolve() == options.target.resolve():
            raise
        print(f"notagen: warning: {error}; converted without labels", file=sys.stderr)
        return dataclasses.replace(stored, advice=read_advice(stored.source))


def _with_tokenizer(
    options: Convert, stored: "StoredCheckpoint", to_file: bool
) -> tuple["StoredCheckpoint", dict[str, bytes]]:
    """The source with what its text model's folder tells, and the tokenizer to write beside it.

    Without `--tokenizer`, that of the source goes along. Raises `NotaGenError` when the option does
    not fit, or names no tokenizer of the model.
    """
    from notagen_jax.clamp2.names import CLAMP2
    from notagen_jax.clamp2.tokenizer import find_tokenizer, open_tokenizer, with_text_settings

    has_text = stored.layout is CLAMP2 and stored.config.has_text
    folder = options.tokenizer
    if folder is not None and (to_file or not has_text):
        what = "a .pth file holds none" if to_file else "the source has no text tower"
        raise NotaGenError(f"--tokenizer {folder}: {what}; leave it out")
    if to_file or not has_text:
        return stored, {}
    if folder is None:
        places = (stored.source, stored.source.parent.parent) if stored.source.is_dir() else ()
        file = next((file for place in places if (file := find_tokenizer(place)) is not None), None)
        return stored, {} if file is None else {file.name: file.read_bytes()}
    file = find_tokenizer(folder) if folder.is_dir() else folder
    if file is None or open_tokenizer(file).vocabulary > stored.config.text_vocabulary:
        raise NotaGenError(
            f"{folder}: no tokenizer of this model here (tokenizer.json or sentencepiece.bpe.model with "
            f"at most {stored.config.text_vocabulary} tokens); give the folder of its text model"
        )
    config = with_text_settings(stored.config, file.parent)
    return dataclasses.replace(stored, config=config), {file.name: file.read_bytes()}


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
