"""Opening CLaMP 2 models: official `.pth` files, converted directories, training runs, the judge."""

import os
from pathlib import Path

from notagen_jax import checkpoints
from notagen_jax.clamp2.features import Clamp2
from notagen_jax.clamp2.names import CLAMP2
from notagen_jax.clamp2.tokenizer import (
    OpenedWhenUsed,
    Tokenizer,
    find_tokenizer,
    open_tokenizer,
    with_text_settings,
)

JUDGE = "judge"
"""Name of the model that comes with the package."""


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    step: int | str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
) -> Clamp2:
    """Load a CLaMP 2 or M3 model into memory.

    `path` is an official `.pth` file, a converted directory, a training run (or one of its step
    folders; `step` a number, "last" or "best"), or "judge" or None for the packaged model; a file or
    folder of that name goes first. `tokenizer` is a folder with the text tower's `tokenizer.json` or
    `sentencepiece.bpe.model` (XLM-RoBERTa's folder as published), needed for text features where the
    directory does not hold one. Raises `NotaGenError` naming the path and the remedy.
    """
    stored = checkpoints.open_stored(path, step, layouts=(CLAMP2,), packaged=JUDGE)
    config = stored.config
    opened: Tokenizer | None = None
    if tokenizer is not None:
        place = Path(tokenizer)
        config = with_text_settings(config, place if place.is_dir() else place.parent)
        opened = open_tokenizer(place)
    elif config.has_text:
        # A directory's own tokenizer, or that of the run which a step folder is in.
        places = (stored.source, stored.source.parent.parent)
        found = next((file for place in places if (file := find_tokenizer(place)) is not None), None)
        opened = None if found is None else OpenedWhenUsed(found)
    return Clamp2(config, stored.params(), stored.source, opened)
