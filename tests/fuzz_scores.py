"""Prepares thousands of damaged scores: each is kept or refused for a reason, none crashes or hangs us.

    python -m tests.fuzz_scores --count 10000 --out fuzz
    python -m tests.fuzz_scores folder/ --count 10000 --out fuzz
    python -m tests.fuzz_scores --only 4711 --out fuzz       # write that damaged score, and read it

The scores are those in tests/data, or in the folder given. A run that was cut short goes on where it
stopped; the same seed gives the same damaged scores.
"""

import dataclasses
import itertools
import json
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import track

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import encode_training
from notagen_jax.score import Piece, ScoreError, is_score, read_pieces
from notagen_jax.score.batch import Done, run_isolated
from tests.score_mutations import mutate

DATA = Path(__file__).parent / "data"
CRASHED = "the converter crashed on it"
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Fuzz:
    """Prepare damaged scores and count what becomes of them."""

    folder: tyro.conf.Positional[Path] = DATA
    """Where the scores to damage lie, at any depth."""
    out: Path = Path("fuzz")
    """Folder of the journal."""
    count: int = 10_000
    """How many damaged scores."""
    seed: int = 0
    """Another seed damages otherwise."""
    processes: int = 2
    """Workers at the same time."""
    seconds: float = 30.0
    """Longest time for one score."""
    only: int | None = None
    """Write the damaged score of this number to the folder, read it, and stop."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One damaged score to be made and read."""

    sources: tuple[Path, ...]
    seed: int
    number: int

    def __str__(self) -> str:
        return f"number {self.number}"


def sources_in(folder: Path) -> list[Path]:
    """The scores of a folder, sorted; raises `NotaGenError` when there are none."""
    found = sorted(path for path in folder.rglob("*") if is_score(path))
    if not found:
        raise NotaGenError(f"{folder}: no score found")
    return found


def read_case(case: Case) -> list[str]:
    """Damage and read one score: for each of its pieces `kept`, or the reason why it was refused.

    A piece is kept when it has all 15 texts and the patch codec takes them. Whatever is not a refusal
    is raised.
    """
    mutant = mutate(list(case.sources), case.seed, case.number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mutant{mutant.suffix}"
        path.write_bytes(mutant.content)
        return [_outcome(piece) for piece in itertools.islice(read_pieces(path), 20)]


def _outcome(piece: Piece | ScoreError) -> str:
    if isinstance(piece, ScoreError):
        return piece.reason
    try:
        texts = piece.reduced_all()
    except ScoreError as error:
        return error.reason
    for text in (piece.interleaved, *texts.values()):
        encode_training(text)
    return "kept"


def fuzz(options: Fuzz) -> bool:
    """Run what is left, print the account; whether no score crashed or hung."""
    sources = tuple(sources_in(options.folder))
    options.out.mkdir(parents=True, exist_ok=True)
    journal = options.out / f"seed-{options.seed}.jsonl"
    done = _read(journal)
    cases = [Case(sources, options.seed, number) for number in range(options.count) if number not in done]
    outcomes = run_isolated(read_case, cases, options.processes, options.seconds)
    with journal.open("a", encoding="utf-8") as stream, closing(outcomes):
        for outcome in track(outcomes, "reading", len(cases), console=Console(stderr=True)):
            if isinstance(outcome, Done):
                reasons, message = outcome.value, ""
            else:
                reasons, message = [outcome.refusal.reason], str(outcome.refusal)
            done[outcome.item.number] = (reasons, message)
            stream.write(json.dumps([outcome.item.number, reasons, message]) + "\n")
            stream.flush()
    return report({number: done[number] for number in range(options.count)})


def _read(journal: Path) -> dict[int, tuple[list[str], str]]:
    done: dict[int, tuple[list[str], str]] = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                number, reasons, message = json.loads(line)
            except ValueError:  # cut short by a crash
                continue
            done[number] = (reasons, message)
    return done


def report(done: dict[int, tuple[list[str], str]]) -> bool:
    """Print the outcomes by reason, and every crash and stop at a limit; whether there was no crash."""
    reasons = Counter(reason for found, _ in done.values() for reason in found)
    print(f"{len(done)} damaged scores, {reasons.total()} pieces: {reasons['kept']} kept")
    for reason, count in reasons.most_common():
        if reason != "kept":
            print(f"  {count:6d} refused: {reason}")
    messages = [message for _, message in done.values() if message]
    crashes = [message for message in messages if CRASHED in message]
    stopped = [message for message in messages if CRASHED not in message]
    print(f"{len(stopped)} stopped at the limits of time and memory, {len(crashes)} crashed")
    for message in [*stopped[:_SHOWN], *crashes]:
        print(f"  {message}")
    return not crashes


def show(options: Fuzz) -> None:
    """Write one damaged score, say how it was damaged, and read it."""
    assert options.only is not None
    sources = tuple(sources_in(options.folder))
    mutant = mutate(list(sources), options.seed, options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.seed}-{options.only}{mutant.suffix}"
    path.write_bytes(mutant.content)
    print(f"{path}: {mutant.source}, {', '.join(mutant.changes)}")
    case = Case(sources, options.seed, options.only)
    for outcome in run_isolated(read_case, [case], seconds=options.seconds):
        print(f"  {', '.join(outcome.value) if isinstance(outcome, Done) else outcome.refusal}")


if __name__ == "__main__":
    chosen = tyro.cli(Fuzz, prog="python -m tests.fuzz_scores")
    try:
        if chosen.only is not None:
            show(chosen)
        else:
            sys.exit(0 if fuzz(chosen) else 1)
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
