"""The card of a built data set: what is in it, by prompt, and what became of every score."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tfds_builders.account import Account
from tfds_builders.selection import SPLITS, Kept

MOST_NAMED = 20_000
"""Pieces up to which a card names them all."""


def prompt_counts(kept: Mapping[str, Sequence[Kept]]) -> list[dict[str, Any]]:
    """Pieces of each prompt by split: `[{period, composer, instrumentation, train, validation}, …]`.

    Sorted; without the pieces that carry no labels.
    """
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for split, pieces in kept.items():
        for piece in pieces:
            if piece.composer:
                counts[piece.period, piece.composer, piece.instrumentation][split] += 1
    return [
        {
            "period": period,
            "composer": composer,
            "instrumentation": instrumentation,
            **{split: by_split[split] for split in SPLITS},
        }
        for (period, composer, instrumentation), by_split in sorted(counts.items())
    ]


def card(title: str, description: str, kept: Mapping[str, Sequence[Kept]], account: Account) -> str:
    """The card as Markdown: sizes, pieces by prompt, what was dropped and why."""
    lines = [f"# {title}", "", " ".join(description.split()), "", *_sizes(kept), ""]
    prompts = prompt_counts(kept)
    if prompts:
        lines += ["## Pieces by prompt", "", *_table(prompts), ""]
    lines += ["## Scores", "", *_scores(account), ""]
    pieces = sorted((piece.name, split, piece) for split, side in kept.items() for piece in side)
    if len(pieces) <= MOST_NAMED:
        lines += ["## Names", ""]
        by_prompt: dict[str, list[str]] = defaultdict(list)
        for name, split, piece in pieces:
            mark = " (held out)" if split == "validation" else ""
            by_prompt[_prompt(piece)].append(f"{name}{mark}")
        for prompt, names in sorted(by_prompt.items()):
            lines += [f"**{prompt}**: {', '.join(names)}", ""]
    return "\n".join(lines)


def _prompt(piece: Kept) -> str:
    """A piece's heading: its prompt, or the folder that it comes from."""
    if piece.composer:
        return f"{piece.period}, {piece.composer}, {piece.instrumentation}"
    return piece.name.rpartition("/")[0] or "."


def _sizes(kept: Mapping[str, Sequence[Kept]]) -> list[str]:
    lines = ["| split | pieces | rows | patches in the original keys | characters in 15 keys |"]
    lines += ["|---|---|---|---|---|"]
    for split, pieces in kept.items():
        converted = [piece.entry.converted for piece in pieces if piece.entry.converted]
        patches = sum(piece.patches[piece.original_key] for piece in converted)
        characters = sum(piece.characters for piece in converted)
        lines.append(f"| {split} | {len(pieces)} | {15 * len(pieces)} | {patches} | {characters} |")
    return lines


def _table(prompts: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = ["period", "composer", "instrumentation", *SPLITS]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return lines + ["| " + " | ".join(str(prompt[head]) for head in heads) + " |" for prompt in prompts]


def _scores(account: Account) -> list[str]:
    report = account.report()
    lines = [f"{report['found']} found = {report['kept']} kept + {report['dropped']} dropped.", ""]
    lines += [f"- {len(names)} dropped: {reason}" for reason, names in report["dropped_by_reason"].items()]
    return lines
