"""From samples to preference data, in files that people can read.

`candidates.jsonl` has one line for every sample: its score, rank, verdict and every reason against
it. `preferences.jsonl` has the chosen and the rejected ones with their texts.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.notation import Validity, check, restore_rests
from notagen_jax.patches import encode_piece
from notagen_jax.preference import (
    ALIGNMENT,
    COPYING,
    PLAGIARISM,
    PORTION,
    Verdict,
    alignment_fault,
    centroid,
    clamp2_scores,
    closest_pieces,
    copying,
    misaligned_share,
    nearest_others,
    plagiarism,
    ranked,
    scattered_staves,
    select,
)
from train.clamp_dpo.copying import KnownPieces
from train.clamp_dpo.ground_truth import Style
from train.clamp_dpo.samples import Drawn, line
from train.dpo.preferences import Preference

FILTERS = (ALIGNMENT, "staves", "plagiarism")


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The ground truth of a run as the judge sees it."""

    styles: tuple[Style, ...]
    features: np.ndarray
    """float32 (n, W): the pieces of the styles, one after another."""

    @property
    def names(self) -> list[str]:
        """Names of the pieces, in the order of the features."""
        return [piece.name for style in self.styles for piece in style.pieces]

    @cached_property
    def known(self) -> KnownPieces:
        """The pieces, to find copies of them by their notes."""
        return KnownPieces((piece.name, piece.text) for style in self.styles for piece in style.pieces)

    def share_above(self, limit: float) -> float:
        """Share of the pieces that have another one at a cosine above `limit`.

        Where that is most of them, the judge tells pieces of the limit's likeness no longer apart, and
        its cosine no copy from an original.
        """
        return float(np.mean(self._nearest > limit))

    @cached_property
    def _nearest(self) -> np.ndarray:
        return nearest_others(self.features)

    def of(self, style: str) -> np.ndarray:
        """The features of one style's pieces, float32 (m, W)."""
        start = 0
        for candidate in self.styles:
            end = start + len(candidate.pieces)
            if candidate.name == style:
                return self.features[start:end]
            start = end
        raise KeyError(style)


@dataclasses.dataclass(frozen=True)
class Heard:
    """A sample and what its notation says: interleaved text and validity, or why there is none."""

    drawn: Drawn
    text: str | None
    validity: Validity | None
    fault: str | None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One line of `candidates.jsonl`."""

    name: str
    style: str
    seed: int
    finished: bool
    score: float | None
    """CLaMP 2 score, None for a sample without one."""
    rank: int | None
    """Place among the scored samples of its style, 1 the best."""
    verdict: Verdict
    why: str
    """Why it has this verdict."""
    reasons: dict[str, str]
    """What says no to choosing it, by filter; `score` tells why there is no score."""
    bars: int
    bar_alignment_error: float | None
    """Share of bars whose voices differ in length."""
    closest: str | None
    """The ground-truth piece nearest by cosine, and that cosine."""
    closest_cosine: float | None
    copied: float | None
    """Largest share of its notes that stands in one ground-truth piece."""


def hear(drawn: Drawn) -> Heard:
    """Restore a sample's rests and check it; a piece given up or without bars has no score.

    The official code draws given-up pieces again; here they stay, counted, outside the ranking.
    """
    if not drawn.finished:
        return Heard(drawn, None, None, f"not finished: {drawn.reason}")
    try:
        encode_piece(drawn.text)  # DPO will need it
        text = restore_rests(drawn.text)
    except NotaGenError as error:
        return Heard(drawn, None, None, str(error))
    return Heard(drawn, text, check(text), None)


@dataclasses.dataclass(frozen=True)
class Filters:
    """Limits of what is chosen; the defaults are the paper's, but for `copying` and `fill`."""

    portion: float = PORTION
    """Share of the scored samples that is chosen, and as much that is rejected."""
    plagiarism: float = PLAGIARISM
    """Largest cosine to any single ground-truth piece; without effect where the judge tells most
    ground-truth pieces themselves no better apart (`GroundTruth.share_above`)."""
    copying: float = COPYING
    """Largest share of its notes that may stand in one ground-truth piece."""
    misaligned: float = 0.0
    """Share of bars that may be amiss; 0, as in the paper, asks for whole alignment."""
    fill: bool = True
    """Where too few pass, whether those with the fewest bars amiss of the better half fill up."""


def judge_style(
    heard: Sequence[Heard], features: np.ndarray, truth: GroundTruth, style: str, filters: Filters
) -> list[Candidate]:
    """Score the samples of one style and give each its verdict.

    features: float32 (n, W) of the samples that have a text, in their order
    """
    scored = [sample for sample in heard if sample.text is not None]
    score_of = dict(
        zip(
            (sample.drawn.name for sample in scored),
            map(float, _scores(features, truth.of(style))),
            strict=True,
        )
    )
    names = truth.names
    closest = dict(
        zip(
            (sample.drawn.name for sample in scored),
            closest_pieces(features, truth.features) if scored else [],
            strict=True,
        )
    )
    tells_apart = truth.share_above(filters.plagiarism) <= 0.5
    faults: list[dict[str, str]] = []
    copied: list[float | None] = []
    for sample in heard:
        found: dict[str, str | None] = {"score": sample.fault}
        share = None
        if sample.text is not None and sample.validity is not None:
            near = closest[sample.drawn.name]
            held = truth.known.closest(sample.text)
            share, holder = (0.0, None) if held is None else (held.containment, held.piece)
            found[ALIGNMENT] = alignment_fault(sample.validity, filters.misaligned)
            found["staves"] = scattered_staves(sample.text)
            found["plagiarism"] = copying(share, holder, filters.copying)
            if tells_apart and found["plagiarism"] is None:
                found["plagiarism"] = plagiarism(near, names[near.index], filters.plagiarism)
        copied.append(share)
        faults.append({name: reason for name, reason in found.items() if reason is not None})
    ordered = [score_of.get(sample.drawn.name) for sample in heard]
    amiss = [misaligned_share(sample.validity) if sample.validity else None for sample in heard]
    verdicts = select(
        ordered, [list(fault) for fault in faults], filters.portion, amiss if filters.fill else None
    )
    places = {index: place for place, index in enumerate(ranked(ordered), 1)}
    return [
        Candidate(
            name=sample.drawn.name,
            style=style,
            seed=sample.drawn.seed,
            finished=sample.drawn.finished,
            score=ordered[index],
            rank=places.get(index),
            verdict=verdicts[index],
            why=_why(verdicts[index], places.get(index), len(places), faults[index]),
            reasons=faults[index],
            bars=sample.validity.bars if sample.validity else 0,
            bar_alignment_error=sample.validity.bar_alignment_error if sample.validity else None,
            closest=names[closest[sample.drawn.name].index] if sample.text is not None else None,
            closest_cosine=closest[sample.drawn.name].cosine if sample.text is not None else None,
            copied=copied[index],
        )
        for index, sample in enumerate(heard)
    ]


def _why(verdict: Verdict, rank: int | None, scored: int, faults: dict[str, str]) -> str:
    """The reason of a verdict in words."""
    against = "; ".join(faults.values())
    if verdict == "unranked":
        return f"no CLaMP 2 score: {against}"
    told = {
        "chosen": f"too few are aligned, of the better half this is nearest to it ({against})"
        if faults
        else "among the best that pass the filters",
        "filtered": against,
        "between": "enough better ones were chosen, and it is not among the worst",
        "rejected": "among the worst by CLaMP 2 score",
    }
    return f"rank {rank} of {scored}: {told[verdict]}"


def preferences(
    candidates: Sequence[Candidate], drawn: Sequence[Drawn], styles: Sequence[Style]
) -> list[Preference]:
    """The chosen and rejected samples with their texts."""
    texts = {sample.name: sample.text for sample in drawn}
    titles = {style.name: style.title for style in styles}
    return [
        Preference(
            prompt=titles[candidate.style],
            name=candidate.name,
            verdict=candidate.verdict,
            score=candidate.score,
            text=texts[candidate.name],
            why=candidate.why,
        )
        for candidate in candidates
        if candidate.verdict in ("chosen", "rejected") and candidate.score is not None
    ]


def counts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """How many samples had each verdict, and how many each filter would bar (one may have several)."""
    verdicts = Counter(candidate.verdict for candidate in candidates)
    return {
        "samples": len(candidates),
        "finished": sum(candidate.finished for candidate in candidates),
        "scored": sum(candidate.score is not None for candidate in candidates),
        **{name: verdicts[name] for name in ("chosen", "filtered", "between", "rejected", "unranked")},
        "chosen_misaligned": sum(c.verdict == "chosen" and ALIGNMENT in c.reasons for c in candidates),
        "failing": {name: sum(name in candidate.reasons for candidate in candidates) for name in FILTERS},
    }


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Write `candidates.jsonl`, whole."""
    write_atomic(path, "".join(line(dataclasses.asdict(candidate)) for candidate in candidates))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of a file; raises `NotaGenError` naming a line that is none."""
    found = []
    for number, text in enumerate(read_text(path, "run the same command again").splitlines(), 1):
        try:
            found.append(Candidate(**json.loads(text)))
        except (ValueError, TypeError) as error:
            raise NotaGenError(f"{path}, line {number}: not a candidate ({error})") from error
    return found


def _scores(features: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return clamp2_scores(features, centroid(truth)) if len(features) else np.zeros(0)
