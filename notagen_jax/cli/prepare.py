"""`notagen prepare`: score files into the interleaved text and the 15 rest-reduced texts."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from notagen_jax.cores import usable_cores
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.batch import SECONDS_A_PIECE, Done, run_isolated
from notagen_jax.score.folder import Job, is_whole, name_scores, prepare_score, remove_piece, sweep
from notagen_jax.score.journal import Journal, Unusable, Written, source_of, stamp_of
from notagen_jax.score.listing import Score, by_suffix, find_files, scores_in

REPORT = "report.json"


@dataclass(frozen=True)
class Prepare:
    """Turn scores into training text: interleaved ABC, and rest-reduced ABC in 15 keys."""

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Score files (MusicXML, ABC, kern, MuseData), or folders that hold them."""
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",))]
    """Folder to write; a run that was cut short goes on where it stopped."""
    processes: int = field(default_factory=lambda: min(8, usable_cores()))
    """Scores converted at the same time."""
    seconds: float = SECONDS_A_PIECE
    """Longest time for one score."""
    retry: bool = False
    """Try again what an earlier run refused, though the file is the same."""


@dataclass
class Tally:
    """The account of a run: every score is kept now, was kept before, or is refused for one reason."""

    files: int = 0
    found: int = 0
    other_files: list[str] = field(default_factory=list)
    """Files in the folders that are no scores; they count nowhere."""
    written: list[Written] = field(default_factory=list)
    already: list[Written] = field(default_factory=list)
    refused: list[Unusable] = field(default_factory=list)

    @property
    def refused_by_reason(self) -> dict[str, list[str]]:
        """The messages of what was refused, by reason, the most frequent first."""
        reasons: dict[str, list[str]] = {}
        for score in self.refused:
            reasons.setdefault(score.reason, []).append(score.message)
        ordered = sorted(reasons.items(), key=lambda entry: (-len(entry[1]), entry[0]))
        return {reason: sorted(messages) for reason, messages in ordered}

    def report(self) -> dict[str, object]:
        """The report file's content; `found == kept + refused`, in scores (a file may hold several)."""
        pieces = sorted(self.written + self.already, key=lambda piece: piece.name)
        return {
            "files": self.files,
            "found": self.found,
            "kept": len(pieces),
            "written_now": len(self.written),
            "written_before": len(self.already),
            "refused": len(self.refused),
            "refused_by_reason": self.refused_by_reason,
            "original_keys": dict(Counter(piece.original_key for piece in pieces).most_common()),
            "pieces": [asdict(piece) for piece in pieces],
            "other_files": self.other_files,
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

    files, others = find_files(options.inputs, options.out)
    scores = [score for file in files for score in scores_in(file)]
    _make_folder(options.out)
    journal = Journal(options.out)
    tally = Tally(files=len(files), found=len(scores), other_files=[str(file) for file in others])
    jobs = _jobs(scores, journal, options, tally)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    outcomes = run_isolated(prepare_score, jobs, options.processes, options.seconds)
    with Progress(*columns) as progress, journal, _swept(options.out), closing(outcomes):
        task = progress.add_task("preparing", total=len(jobs))
        for outcome in outcomes:
            if isinstance(outcome, Done):
                tally.written.append(outcome.value)
                journal.add(outcome.value)
            else:
                score, refusal = outcome.item.score, outcome.refusal
                unusable = Unusable(source_of(score), stamp_of(score), refusal.reason, str(refusal))
                tally.refused.append(unusable)
                journal.add(unusable)
                if unusable.source in journal.written:
                    remove_piece(journal.written[unusable.source], options.out)
            progress.advance(task)
    return tally


def _jobs(scores: list[Score], journal: Journal, options: Prepare, tally: Tally) -> list[Job]:
    """What is left to do; what earlier runs did goes into `tally`."""
    names = name_scores(scores, {piece.name: source for source, piece in journal.written.items()})
    jobs = []
    for score in scores:
        source = source_of(score)
        piece, refused = journal.written.get(source), journal.refused.get(source)
        if piece is not None and is_whole(piece, score, options.out):
            tally.already.append(piece)
        elif refused is not None and refused.stamp == stamp_of(score) and not options.retry:
            tally.refused.append(refused)
        else:
            jobs.append(Job(score, names[score], options.out))
    return jobs


@contextmanager
def _swept(out: Path) -> Iterator[None]:
    sweep(out)
    try:
        yield
    finally:
        sweep(out)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotaGenError(
            f"{out}: cannot make the folder ({error.strerror or error}); choose another --out"
        ) from error


def _print_account(tally: Tally, out: Path) -> None:
    report = tally.report()
    files = "" if tally.files == tally.found else f" in {tally.files} files"
    print(f"{report['found']} scores{files} = {report['kept']} kept + {report['refused']} refused")
    if tally.already:
        print(f"  {len(tally.already)} of the kept were already written by an earlier run")
    for reason, messages in tally.refused_by_reason.items():
        print(f"  {len(messages):5d} refused: {reason}")
        for message in messages[:3]:
            print(f"        {_printable(message)}")
        if len(messages) > 3:
            print(f"        … and {len(messages) - 3} more, listed in {out / REPORT}")
    if others := tally.other_files:
        print(f"  {len(others):5d} other files, which are no scores: {by_suffix(others)}")
    print(f"written to {out} (account in {out / REPORT})")


def _printable(text: str) -> str:
    """The text as the terminal can show it: file names need not be text."""
    return text.encode(sys.stdout.encoding or "utf-8", "backslashreplace").decode(
        sys.stdout.encoding or "utf-8"
    )
