"""What a policy's samples are worth: the part of the paper's Table 2 that the run's own judge gives."""

import dataclasses
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.preference import centroid, clamp2_scores, closest_pieces
from train.clamp_dpo.samples import line
from train.clamp_dpo.selection import GroundTruth, Heard


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """One line of `pieces.jsonl`: what was found of one evaluation sample."""

    name: str
    style: str
    finished: bool
    fault: str | None
    """Why it has no score; None when it has one."""
    score: float | None
    """CLaMP 2 score."""
    bars: int
    misaligned: int
    """Bars whose voices differ in length."""
    aligned: bool
    closest: str | None
    """The ground-truth piece nearest by cosine, and that cosine."""
    closest_cosine: float | None


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of a set of pieces; definitions as the paper's section 4.3."""

    pieces: int
    finished: float
    """Share of samples that came to their end."""
    scored: float
    """Share of samples with a score: finished, with bars whose rests could be restored."""
    score: float | None
    """Average CLaMP 2 score: mean over prompts of the mean cosine of the scored pieces to the centroid.

    So a prompt whose pieces end more often weighs no more. With as many pieces of each prompt, as in
    the paper, it is the mean over all pieces.
    """
    score_error: float | None
    """Standard error of that mean."""
    bar_alignment_error: float | None
    """Share of all bars of the scored pieces whose voices differ in length."""
    aligned: float
    """Share of the scored pieces whose voices agree in every bar."""


def evaluate(heard: Sequence[Heard], features: np.ndarray, truth: GroundTruth) -> list[Evaluated]:
    """Score the samples of all styles; `features` float32 (n, W) are of those with a text, in order."""
    places = {sample.drawn.name: n for n, sample in enumerate(s for s in heard if s.text is not None)}
    centers = {style.name: centroid(truth.of(style.name)) for style in truth.styles}
    names = truth.names
    found = []
    for sample in heard:
        drawn, validity = sample.drawn, sample.validity
        score = near = None
        if drawn.name in places:
            vector = features[places[drawn.name]][None]
            score = float(clamp2_scores(vector, centers[drawn.style])[0])
            near = closest_pieces(vector, truth.features)[0]
        found.append(
            Evaluated(
                name=drawn.name,
                style=drawn.style,
                finished=drawn.finished,
                fault=sample.fault,
                score=score,
                bars=validity.bars if validity else 0,
                misaligned=len(validity.misaligned) if validity else 0,
                aligned=validity is not None and validity.aligned,
                closest=names[near.index] if near else None,
                closest_cosine=near.cosine if near else None,
            )
        )
    return found


def average(scores: Collection[np.ndarray]) -> tuple[float | None, float | None]:
    """Mean over prompts of the mean score of each, and its standard error; arrays (n,), one a prompt.

    Prompts without a score are left out. None without any; no error where a prompt has a single one.
    """
    known = [values for values in scores if len(values)]
    if not known:
        return None, None
    mean = float(np.mean([values.mean() for values in known]))
    if min(map(len, known)) < 2:
        return mean, None
    return mean, math.sqrt(sum(values.var(ddof=1) / len(values) for values in known)) / len(known)


def scores_by_style(pieces: Sequence[Evaluated]) -> dict[str, np.ndarray]:
    """The scores of the scored pieces of each style that has any: arrays (n,)."""
    found: dict[str, list[float]] = {}
    for piece in pieces:
        if piece.score is not None:
            found.setdefault(piece.style, []).append(piece.score)
    return {style: np.array(scores) for style, scores in found.items()}


def summarise(pieces: Sequence[Evaluated]) -> Metrics:
    """Metrics over a set of evaluated pieces; raises `NotaGenError` when it is empty."""
    if not pieces:
        raise NotaGenError("no evaluation sample: set --evaluation-samples to at least 1")
    scored = sum(piece.score is not None for piece in pieces)
    score, error = average(scores_by_style(pieces).values())
    bars = sum(piece.bars for piece in pieces)
    return Metrics(
        pieces=len(pieces),
        finished=sum(piece.finished for piece in pieces) / len(pieces),
        scored=scored / len(pieces),
        score=score,
        score_error=error,
        bar_alignment_error=sum(piece.misaligned for piece in pieces) / bars if bars else None,
        aligned=sum(piece.aligned for piece in pieces) / max(scored, 1),
    )


def by_style(pieces: Sequence[Evaluated]) -> dict[str, Any]:
    """Metrics of all pieces and of each style, JSON-ready."""
    styles = dict.fromkeys(piece.style for piece in pieces)
    return {
        "overall": dataclasses.asdict(summarise(pieces)),
        "styles": {
            style: dataclasses.asdict(summarise([piece for piece in pieces if piece.style == style]))
            for style in styles
        },
    }


def write_evaluated(path: Path, pieces: Sequence[Evaluated]) -> None:
    """Write `pieces.jsonl`, whole."""
    write_atomic(path, "".join(line(dataclasses.asdict(piece)) for piece in pieces))


def read_evaluated(path: Path) -> list[Evaluated]:
    """The pieces of a file; raises `NotaGenError` naming a line that is none."""
    found = []
    for number, text in enumerate(read_text(path, "run the same command again").splitlines(), 1):
        try:
            found.append(Evaluated(**json.loads(text)))
        except (ValueError, TypeError) as error:
            raise NotaGenError(f"{path}, line {number}: not an evaluated piece ({error})") from error
    return found
