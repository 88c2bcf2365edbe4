"""`notagen loglik`: the likelihood of given pieces under a checkpoint."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from notagen_jax import checkpoints
from notagen_jax.checkpoints import Checkpoint
from notagen_jax.cli.tune_input import read_tune
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.losses import nll_sum
from notagen_jax.patches import encode_training

BUCKET = 128
"""Lengths are padded to multiples of this, so that few programs are compiled."""


@dataclasses.dataclass(frozen=True)
class LogLik:
    """Log-likelihood of pieces in reduced text; prints one JSON line a piece.

    Fields: file; patches: how many were scored; chars: target characters in them; nll: mean negative
    log-likelihood, nats a character; logp: sum of log-probabilities, nats; window: "whole", or
    "head" when the piece is longer than the model's window and only its first patches were scored.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Reduced ABC, with or without stream headers `[r:i/j]` (they are added where missing)."""
    checkpoint: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "mini"
    """An official .pth, a converted folder, a training run, or the packaged "mini"."""


def run(options: LogLik) -> int:
    """Score every file; 1 when any could not be read or encoded (each is named on standard error)."""
    if not options.files:
        raise NotaGenError("no files given; name at least one file of reduced ABC")
    enable_compilation_cache()
    checkpoint = checkpoints.load(options.checkpoint)
    failed = 0
    for path in options.files:
        try:
            text = read_tune(path)
            try:
                result = score(checkpoint, text)
            except NotaGenError as error:
                raise NotaGenError(f"{path}: {error}") from error
        except NotaGenError as error:
            failed += 1
            print(f"notagen: {error}", file=sys.stderr)
            continue
        print(json.dumps({"file": str(path), **result}), flush=True)
    if failed:
        print(f"notagen: {failed} of {len(options.files)} files could not be scored", file=sys.stderr)
    return 1 if failed else 0


def score(checkpoint: Checkpoint, text: str) -> dict[str, object]:
    """Patches, characters, mean NLL and summed log-probability (nats) of one piece.

    Raises `NotaGenError` on text that is not ASCII or has no tune body.
    """
    patches = encode_training(text)
    window = checkpoint.config.patch_length
    scored = patches[:window]
    padded = min(-(-len(scored) // BUCKET) * BUCKET, window)
    row = np.zeros((1, padded, PATCH_SIZE), np.uint8)
    row[0, : len(scored)] = scored
    total, count = _nll_sum(checkpoint.config, checkpoint.params, row)
    return {
        "patches": len(scored),
        "chars": int(count),
        "nll": float(total) / max(int(count), 1),
        "logp": -float(total),
        "window": "whole" if len(scored) == len(patches) else "head",
    }


_nll_sum = jax.jit(nll_sum, static_argnums=0)
