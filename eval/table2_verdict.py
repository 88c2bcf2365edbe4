"""What the paper's Table 2 claims for CLaMP-DPO, asked of a measured table."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from eval.table2_measures import LABELS, Row

SECOND_JUDGE = "second judge"


class Claim(NamedTuple):
    """One claim and whether the measured rows bear it out."""

    name: str
    text: str
    holds: bool
    figures: str
    """The figures that tell."""


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The claims that can be asked of rows, the ground truth first and K = 0 next; [] with fewer than two K.

    Label accuracy and bar alignment error are compared between the first and the last K. The second
    judge agrees when its score rises from the first to the last K by more than the standard error of
    the difference. Measures that are missing are left out.
    """
    policies = list(rows[1:])
    if len(policies) < 2:
        return []
    first, last = policies[0], policies[-1]
    found = []
    scores = [row.score for row in policies if row.score is not None]
    if len(scores) == len(policies):
        rises = all(a < b for a, b in itertools.pairwise(scores))
        found.append(Claim("score", "the average score rises at every K", rises, _series(scores)))
    for label in LABELS:
        if label in first.labels and label in last.labels:
            a, b = 100 * first.labels[label], 100 * last.labels[label]
            text = f"the accuracy of {label} does not fall"
            found.append(Claim(label, text, b >= a, f"{a:.1f} % to {b:.1f} %"))
    if first.bar_alignment_error is not None and last.bar_alignment_error is not None:
        a, b = 100 * first.bar_alignment_error, 100 * last.bar_alignment_error
        text = "bar alignment error does not rise"
        found.append(Claim("bar alignment error", text, b <= a, f"{a:.1f} % to {b:.1f} %"))
    if first.second_score is not None and last.second_score is not None:
        error = math.hypot(first.second_error or 0.0, last.second_error or 0.0)
        agrees = last.second_score - first.second_score > error
        seen = [row.second_score for row in policies if row.second_score is not None]
        figures = f"{_series(seen)}; standard error of the difference {error:.4f}"
        found.append(Claim(SECOND_JUDGE, "the second judge agrees", agrees, figures))
    return found


def lines(found: Sequence[Claim]) -> str:
    """The claims as a list in Markdown."""
    return "".join(
        f"- {claim.text}: **{'yes' if claim.holds else 'no'}** ({claim.figures})\n" for claim in found
    )


def _series(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
