"""`notagen score`: how close pieces are to others, by CLaMP 2."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.score.listing import find_scores

if TYPE_CHECKING:
    from notagen_jax.clamp2 import Clamp2


@dataclass(frozen=True)
class Score:
    """CLaMP 2 score of pieces: closeness to the pieces of a folder; prints one JSON line a piece.

    Fields: file; score: cosine of the piece's feature to the mean feature of the folder's pieces, -1 to
    1; nearest: the folder's piece that is closest to it, and nearest_score, their cosine (above 0.95
    counts as copied in CLaMP-DPO).
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """ABC (interleaved, reduced, or as sampled) or MusicXML files, or folders of them."""
    against: Path
    """Folder of the pieces to compare with, in any of these forms."""
    clamp2: str = "judge"
    """CLaMP 2 weights: an official .pth, a converted folder, a training run, or the packaged "judge"."""
    batch_size: Annotated[int | None, tyro.conf.arg(constructor=int)] = None
    """Segments computed together; by default of 256 patches on a CPU, 64 elsewhere."""


def run(options: Score) -> int:
    """Score every file; 1 when any could not be read (each is named on standard error).

    Raises `NotaGenError` when the folder has no readable piece or the weights cannot be opened.
    """
    from notagen_jax import clamp2
    from notagen_jax.compilation import enable_compilation_cache
    from notagen_jax.preference import centroid, clamp2_scores, closest_pieces

    if not options.files:
        raise NotaGenError("no files given; name at least one score")
    files, against = find_scores(options.files), find_scores([options.against])
    enable_compilation_cache()
    model = clamp2.load(options.clamp2)
    names, truth, _ = _features(model, against, options.batch_size)
    if not names:
        raise NotaGenError(f"{options.against}: none of its {len(against)} scores can be read")
    pieces, features, failed = _features(model, files, options.batch_size)
    scores = clamp2_scores(features, centroid(truth)) if pieces else np.zeros(0)
    for piece, score, closest in zip(
        pieces, scores, closest_pieces(features, truth) if pieces else [], strict=True
    ):
        line = {
            "file": piece,
            "score": float(score),
            "nearest": names[closest.index],
            "nearest_score": closest.cosine,
        }
        print(json.dumps(line), flush=True)
    if pieces:
        print(
            f"notagen: mean score {scores.mean():.4f} of {len(pieces)} pieces against {len(names)} "
            f"({model.source})",
            file=sys.stderr,
        )
    if failed:
        print(f"notagen: {failed} scores could not be read", file=sys.stderr)
    return 1 if failed else 0


def _features(
    model: "Clamp2", files: Iterable[Path], batch_size: int | None
) -> tuple[list[str], np.ndarray, int]:
    """Names and features of the readable scores in files, and how many were not; those are named."""
    from notagen_jax.clamp2.score_text import interleaved_texts

    names, texts, failed = [], [], 0
    for file in files:
        for found in interleaved_texts(file):
            if isinstance(found, NotaGenError):
                failed += 1
                print(f"notagen: {found}", file=sys.stderr)
            else:
                names.append(found[0])
                texts.append(found[1])
    return names, model.music_features(texts, batch_size=batch_size), failed
