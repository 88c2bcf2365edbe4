"""`notagen prepare`: score files into the interleaved text and the 15 rest-reduced texts."""

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, TextIO

import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.batch import SECONDS_A_PIECE, Done, run_isolated
from notagen_jax.score.folder import (
    JOURNAL,
    Job,
    Written,
    is_whole,
    journal_line,
    name_scores,
    prepare_score,
    read_journal,
    source_of,
)
from notagen_jax.score.listing import find_scores, scores_in

REPORT = "report.json"


@dataclass(frozen=True)
class Prepare:
    """Turn scores into training text: interleaved ABC, and rest-reduced ABC in 15 keys."""

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Score files (.xml, .musicxml, .mxl, .abc), or folders that hold them."""
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    """Folder to write; a run that was cut short goes on where it stopped."""
    processes: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    """Scores converted at the same time."""
    seconds: float = SECONDS_A_PIECE
    """Longest time for one score."""


@dataclass
class Tally:
    """The account of a run: every score is kept now, was kept before, or is refused for one reason."""

    found: int = 0
    written: list[Written] = field(default_factory=list)
    already: list[Written] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)

    def report(self) -> dict[str, object]:
        """The report file's content; `found == kept + refused`."""
        refused = sum(map(len, self.refused.values()))
        pieces = sorted(self.written + self.already, key=lambda piece: piece.name)
        return {
            "found": self.found,
            "kept": len(pieces),
            "written_now": len(self.written),
            "written_before": len(self.already),
            "refused": refused,
            "refused_by_reason": {
                reason: sorted(scores)
                for reason, scores in sorted(self.refused.items(), key=lambda entry: -len(entry[1]))
            },
            "original_keys": dict(Counter(piece.original_key for piece in pieces).most_common()),
            "pieces": [asdict(piece) for piece in pieces],
        }


def run(options: Prepare) -> int:
    """Prepare every score, write the report, print the account; 1 when no score at all could be kept."""
    if not options.inputs:
        raise NotaGenError("nothing to prepare: name score files or folders")
    if options.processes < 1:
        raise NotaGenError(f"--processes {options.processes}: must be at least 1")
    if not options.seconds > 0:
        raise NotaGenError(f"--seconds {options.seconds:g}: must be more than 0")
    tally = prepare_all(options)
    report = tally.report()
    write_atomic(options.out / REPORT, json.dumps(report, indent=1) + "\n")
    _print_account(tally, options.out)
    return 0 if report["kept"] else 1


def prepare_all(options: Prepare) -> Tally:
    """Prepare the scores that are not yet whole in the output folder; raises `NotaGenError`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    files = find_scores(options.inputs, options.out)
    scores = [score for file in files for score in scores_in(file)]
    _make_folder(options.out)
    earlier = read_journal(options.out)
    names = name_scores(scores, {piece.name: source for source, piece in earlier.items()})
    tally = Tally(found=len(scores))
    jobs = []
    for score in scores:
        before = earlier.get(source_of(score))
        if before is not None and is_whole(before, score, options.out):
            tally.already.append(before)
        else:
            jobs.append(Job(score, names[score], options.out))
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns) as progress, _open_journal(options.out) as journal:
        task = progress.add_task("preparing", total=len(jobs))
        for outcome in run_isolated(prepare_score, jobs, options.processes, options.seconds):
            if isinstance(outcome, Done):
                tally.written.append(outcome.value)
                journal.write(journal_line(outcome.value))
                journal.flush()
            else:
                tally.refused.setdefault(outcome.refusal.reason, []).append(str(outcome.refusal))
            progress.advance(task)
    return tally


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotaGenError(
            f"{out}: cannot make the folder ({error.strerror or error}); choose another --out"
        ) from error


def _open_journal(out: Path) -> TextIO:
    journal = out / JOURNAL
    try:
        stream = journal.open("a+", encoding="utf-8", newline="\n")
        if stream.tell():
            content = journal.read_text(encoding="utf-8")
            if not content.endswith("\n"):  # the last run was killed while it wrote this line
                stream.write("\n")
        return stream
    except OSError as error:
        raise NotaGenError(
            f"{journal}: cannot write ({error.strerror or error}); choose a folder that can be written"
        ) from error


def _print_account(tally: Tally, out: Path) -> None:
    report = tally.report()
    print(f"{report['found']} scores = {report['kept']} kept + {report['refused']} refused")
    if tally.already:
        print(f"  {len(tally.already)} of the kept were already written by an earlier run")
    for reason, scores in sorted(tally.refused.items(), key=lambda entry: -len(entry[1])):
        print(f"  {len(scores):5d} refused: {reason}")
        for score in scores[:3]:
            print(f"        {score}")
        if len(scores) > 3:
            print(f"        … and {len(scores) - 3} more, listed in {out / REPORT}")
    print(f"written to {out} (account in {out / REPORT})")
