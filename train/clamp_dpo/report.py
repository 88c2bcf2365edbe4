"""The report of a run: counts of every selection, scores of every policy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notagen_jax.files import read_text
from train.clamp_dpo.evaluation import Metrics
from train.clamp_dpo.ground_truth import Account
from train.clamp_dpo.selection import counts, read_candidates

COSINES = {
    True: "Copies are told by cosine and note by note.",
    False: "So the judge's cosine tells no copies; they are told note by note alone.",
}
"""What a report says of the filter against plagiarism."""
_REMEDY = "delete it, and run the same command again"


def collect(run: Path, account: Account, above: float, done: int) -> dict[str, Any]:
    """What is known of a run after `done` iterations, JSON-ready.

    `above` is the share of ground-truth pieces with another one above the limit of plagiarism.
    """
    iterations = []
    for k in range(1, done + 1):
        candidates = read_candidates(run / f"iteration-{k}" / "candidates.jsonl")
        styles = {
            style.title: counts([c for c in candidates if c.style == style.name]) for style in account.used
        }
        iterations.append({"iteration": k, "selection": counts(candidates), "prompts": styles})
    return {
        "prompts": {
            "used": len(account.used),
            "left_out": len(account.left_out),
            "ground_truth_pieces": sum(len(style.pieces) for style in account.used),
        },
        "judge": {"ground_truth_above_limit": above, "cosine_tells_copies": above <= 0.5},
        "iterations": iterations,
        "evaluation": [{"K": k, **metrics(run / "evaluation" / str(k))} for k in range(done + 1)],
    }


def metrics(folder: Path) -> dict[str, Any]:
    """The metrics of an evaluation folder."""
    return json.loads(read_text(folder / "metrics.json", _REMEDY))


def sentence(folder: Path) -> str:
    """The metrics of an evaluation folder, overall, on one line."""
    found = Metrics(**metrics(folder)["overall"])
    return (
        f"average CLaMP 2 score {figure(found.score)} ± {figure(found.score_error)}, "
        f"bar alignment error {percent(found.bar_alignment_error)}, "
        f"{percent(found.finished)} of {found.pieces} samples finished"
    )


def counted(found: Mapping[str, Any]) -> str:
    """The counts of a selection on one line."""
    failing = ", ".join(f"{name} {count}" for name, count in found["failing"].items())
    return (
        f"{found['samples']} samples, {found['scored']} scored, {found['chosen']} chosen "
        f"({found['chosen_misaligned']} of them not wholly aligned), "
        f"{found['rejected']} rejected, {found['filtered']} of the best filtered out "
        f"(fail of all scored: {failing})"
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The report as a page."""
    prompts = found["prompts"]
    lines = [
        "# CLaMP-DPO",
        "",
        f"{prompts['used']} prompts with {prompts['ground_truth_pieces']} ground-truth pieces; "
        f"{prompts['left_out']} prompts left out (`prompts.json` tells why).",
        "",
        "## Policies, on evaluation samples",
        "",
        "| K | CLaMP 2 score | standard error | bar alignment error | finished | aligned |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["evaluation"]:
        whole = Metrics(**row["overall"])
        lines.append(
            f"| {row['K']} | {figure(whole.score)} | {figure(whole.score_error)} | "
            f"{percent(whole.bar_alignment_error)} | {percent(whole.finished)} | {percent(whole.aligned)} |"
        )
    lines += [
        "",
        "## Selections",
        "",
        f"{percent(found['judge']['ground_truth_above_limit'])} of the ground-truth pieces have another one "
        f"at a cosine above the limit of plagiarism. {COSINES[found['judge']['cosine_tells_copies']]}",
        "",
        "| iteration | prompt | samples | scored | chosen | not wholly aligned | rejected | filtered "
        "| fail alignment | fail staves | plagiarism |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    columns = ("samples", "scored", "chosen", "chosen_misaligned", "rejected", "filtered")
    for iteration in found["iterations"]:
        for prompt, row in {"all": iteration["selection"], **iteration["prompts"]}.items():
            cells = [iteration["iteration"], prompt, *(row[column] for column in columns)]
            cells += row["failing"].values()
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def figure(value: float | None) -> str:
    """A score with four digits, a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A share in percent, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"
