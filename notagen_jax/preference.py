"""From features of samples to preference data: scores, filters, chosen and rejected (paper section 3.4).

Pure functions of feature vectors and texts; facts in the fact sheet's sections 6 and 7.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import Validity

PORTION = 0.1
"""Share of the samples of a prompt that is chosen, and as much that is rejected."""
PLAGIARISM = 0.95
"""A sample whose cosine to any ground-truth piece is above this counts as copied."""
COPYING = 0.5
"""A sample of which a larger share stands in one ground-truth piece, note by note, counts as copied."""

ALIGNMENT = "alignment"
"""Name of the filter that `select` may let the best of a poor model pass."""
_BLOCK = 512
"""Rows whose cosines to all others are computed together."""
_INSTRUMENT = re.compile(r'^V:.*?\bnm="([^"]+)"')

Verdict = Literal["chosen", "rejected", "filtered", "between", "unranked"]
"""What became of a sample: `filtered` ranks among the best but failed a filter, `between` is neither
good nor bad enough, `unranked` has no score."""


@dataclass(frozen=True)
class Closest:
    """The ground-truth piece nearest to a sample."""

    index: int
    """Its place in the ground truth."""
    cosine: float


def cosines(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of every pair of rows: float64 (n, m) for features (n, W) and others (m, W).

    Raises `NotaGenError` on a vector of length 0 or one that is not finite.
    """
    return np.clip(_directions(features) @ _directions(others).T, -1.0, 1.0)


def centroid(features: np.ndarray) -> np.ndarray:
    """Mean of the ground-truth vectors of a prompt, float64 (W,) for features (n, W); lengths count."""
    if not len(features):
        raise NotaGenError("no ground-truth piece to average: a prompt needs at least one")
    return np.asarray(features, np.float64).mean(axis=0)


def clamp2_scores(features: np.ndarray, center: np.ndarray) -> np.ndarray:
    """CLaMP 2 score of every piece: its cosine to the prompt's centroid, float64 (n,)."""
    return cosines(features, center[None])[:, 0]


def closest_pieces(features: np.ndarray, ground_truth: np.ndarray) -> list[Closest]:
    """For every row of features (n, W) the nearest row of ground_truth (m, W) by cosine."""
    table = cosines(features, ground_truth)
    nearest = table.argmax(axis=1)
    return [Closest(int(index), float(row[index])) for row, index in zip(table, nearest, strict=True)]


def nearest_others(features: np.ndarray) -> np.ndarray:
    """Largest cosine of every row of features (n, W) to another row, float64 (n,); -1 for a single one."""
    found = np.full(len(features), -1.0)
    for start in range(0, len(features), _BLOCK):
        table = cosines(features[start : start + _BLOCK], features)
        table[np.arange(len(table)), start + np.arange(len(table))] = -1.0
        found[start : start + _BLOCK] = table.max(axis=1)
    return found


def misaligned_share(validity: Validity) -> float | None:
    """Share of bars, 0 … 1, whose voices differ in length or in bar lines; None where they cannot be paired.

    They cannot when there are no bars, or unequal numbers of them.
    """
    if not validity.bars or len(set(validity.bar_counts.values())) > 1:
        return None
    return len(_misaligned_bars(validity)) / validity.bars


def alignment_fault(validity: Validity, tolerance: float = 0.0) -> str | None:
    """Why a piece's voices are not aligned (bar lengths, bar lines, bar counts); None when they are.

    `tolerance` is the share of bars, 0 … 1, that may be amiss; the paper's filter has none.
    """
    if not validity.bars:
        return "voices not aligned: there are no bars"
    if len(set(validity.bar_counts.values())) > 1:
        return "voices not aligned: they have unequal numbers of bars"
    amiss = _misaligned_bars(validity)
    if len(amiss) <= tolerance * validity.bars:
        return None
    what = "length" if validity.misaligned else "bar lines"
    return (
        f"voices not aligned: {len(amiss)} of {validity.bars} bars differ in {what}, first bar {min(amiss)}"
    )


def _misaligned_bars(validity: Validity) -> set[int]:
    return {bar.bar for bar in validity.misaligned} | set(validity.bar_line_disagreements)


def scattered_staves(interleaved: str) -> str | None:
    """Why the staves are not grouped: the first instrument that comes back after another one; else None.

    An instrument is what a header line `V:… nm="…"` names; voices without a name do not count.
    """
    seen: set[str] = set()
    last = ""
    for line in interleaved.split("\n"):
        named = _INSTRUMENT.match(line)
        if named is None:
            continue
        instrument = named[1]
        if instrument != last and instrument in seen:
            return f'staves not grouped: "{instrument}" comes back after "{last}"'
        seen.add(instrument)
        last = instrument
    return None


def plagiarism(closest: Closest, name: str, limit: float = PLAGIARISM) -> str | None:
    """Why a piece counts as copied from the ground-truth piece `name`; None when it does not."""
    if closest.cosine <= limit:
        return None
    return f"plagiarism: cosine {closest.cosine:.4f} to {name} is above {limit:g}"


def copying(share: float, name: str | None, limit: float = COPYING) -> str | None:
    """Why a piece counts as copied from `name`, in which so much of it stands; None when it does not."""
    if share <= limit:
        return None
    return f"plagiarism: {100 * share:.0f} % of it stands note by note in {name}, above {100 * limit:g} %"


def select(
    scores: Sequence[float | None],
    faults: Sequence[Sequence[str]],
    portion: float = PORTION,
    misaligned: Sequence[float | None] | None = None,
) -> list[Verdict]:
    """Verdict on every sample of one prompt.

    scores:     CLaMP 2 scores, None for a sample that could not be scored
    faults:     for each sample the filters that say no to choosing it, by name
    misaligned: `misaligned_share` of each sample; not given, no sample with a fault is chosen

    With n scored samples, t = ⌊n · portion⌋: the t worst are rejected, filters or not. The ranking is
    gone through from the best until t samples without a fault are chosen (official code's way); it
    ends where the rejected begin, so no sample is both. Equal scores keep the order of the samples.

    A model that aligns few pieces wholly leaves fewer than t. The places left then go, if `misaligned`
    is given, to those of the better half whose only fault is "alignment", fewest bars amiss first.
    Raises `NotaGenError` when the portion is not in (0, 0.5].
    """
    if not 0 < portion <= 0.5:
        raise NotaGenError(f"portion must be above 0 and at most 0.5, got {portion}")
    verdicts: list[Verdict] = ["unranked" if score is None else "between" for score in scores]
    ranking = ranked(scores)
    wanted = int(len(ranking) * portion)
    for index in ranking[len(ranking) - wanted :]:
        verdicts[index] = "rejected"
    chosen = 0
    for index in ranking[: len(ranking) - wanted]:
        if chosen == wanted:
            break
        verdicts[index] = "filtered" if faults[index] else "chosen"
        chosen += not faults[index]
    if misaligned is not None and chosen < wanted:
        nearly = {
            index: share
            for index in ranking[: len(ranking) // 2]
            if list(faults[index]) == [ALIGNMENT] and (share := misaligned[index]) is not None
        }
        for index in sorted(nearly, key=lambda index: nearly[index])[: wanted - chosen]:
            verdicts[index] = "chosen"
    return verdicts


def ranked(scores: Sequence[float | None]) -> list[int]:
    """Indices of the scored samples, best first; equal scores in their own order."""
    known = [(-score, index) for index, score in enumerate(scores) if score is not None]
    return [index for _, index in sorted(known)]


def _directions(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float64."""
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    broken = ~np.isfinite(lengths[..., 0]) | (lengths[..., 0] == 0)
    if broken.any():
        raise NotaGenError(
            f"feature vector {int(np.argmax(broken))} is zero or not finite; "
            "is the judge's checkpoint damaged?"
        )
    return rows / lengths
