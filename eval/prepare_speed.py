"""Pieces a second of `notagen prepare` on one core, beside the official pre-processing of the same scores.

    python -m eval.prepare_speed                                   # the scores in tests/data
    python -m eval.prepare_speed folder/ --scores 200
    python -m eval.prepare_speed folder/ --scores 200 --json speed.json

Both sides write the same 16 texts of each score, in turns, and the texts are compared.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval import official_preprocessing
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score import Score, ScoreError
from notagen_jax.score.folder import Job, prepare_score
from notagen_jax.score.source import MUSICXML_SUFFIXES, read_musicxml

SCORES = Path(__file__).parent.parent / "tests" / "data"
METHOD = (
    "CPU seconds, those of child processes included, so that other work on the machine counts little. "
    "Ours reads the score file, checks it, and writes 16 files whole or not at all. The official steps "
    "start the converter as a process for each score, read the music again for each of 15 keys, and "
    "write each reduced text anew after each of its bars; 'as it stands' is with that last loop, "
    "'loop mended' writes each text once. What that loop costs depends on the file system of the temporary "
    "folder (TMPDIR). The ratio is of total times over the scores that both prepare. "
    "The first score warms up our side (imports, caches) and is timed again."
)


@dataclasses.dataclass(frozen=True)
class PrepareSpeed:
    """Pieces a second of our pre-processing and of the official one, and their ratio."""

    folder: tyro.conf.Positional[Path] = SCORES
    """MusicXML scores, at any depth."""
    scores: int = 200
    """How many of them are timed, spread evenly over the sorted list."""
    json: Path | None = None
    """Write the figures to this file too."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """CPU seconds of one score: ours, the official converter's, its text steps' and its writing's."""

    score: str
    ours: float
    convert: float
    texts: float
    writing: float
    writing_once: float
    equal: bool


def choose(folder: Path, count: int) -> list[Path]:
    """`count` MusicXML files spread evenly over those in a folder; raises `NotaGenError` if there is none."""
    if count < 1:
        raise NotaGenError(f"--scores {count}: must be at least 1")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MUSICXML_SUFFIXES)
    if not files:
        raise NotaGenError(f"{folder}: no MusicXML score found")
    count = min(count, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    times = os.times()
    # The system counts its own figures in hundredths of a second, as long as a small score takes.
    return time.process_time() + times.children_user + times.children_system


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of a call that must not print."""
    began = cpu_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    return cpu_seconds() - began


def time_score(path: Path, folder: Path) -> Timed:
    """Prepare one score both ways below `folder`; raises `ScoreError` or `Failed` where one way fails."""
    document = folder / "score.xml"
    document.write_bytes(read_musicxml(path))
    ours = timed(lambda: prepare_score(Job(Score(path), "score", folder / "ours")))
    abc: list[str] = []
    texts: list[tuple[str, dict[str, str]]] = []
    convert = timed(lambda: abc.append(official_preprocessing.convert(document)))
    made = timed(lambda: texts.append(official_preprocessing.preprocess(abc[0])))
    interleaved, by_key = texts[0]
    out = folder / "official"
    out.mkdir(exist_ok=True)

    def write(each: Callable[[Path, str], object]) -> None:
        (out / "interleaved.abc").write_text(interleaved, encoding="utf-8")
        for key, text in by_key.items():
            each(out / f"{key}.abc", text)

    writing = timed(lambda: write(official_preprocessing.write_bar_by_bar))
    equal = all(
        (folder / "ours" / "reduced" / key / "score.abc").read_bytes() == (out / f"{key}.abc").read_bytes()
        for key in by_key
    )
    equal = equal and (folder / "ours" / "interleaved" / "score.abc").read_text() == interleaved
    writing_once = timed(lambda: write(lambda path, text: path.write_text(text, encoding="utf-8")))
    return Timed(str(path), ours, convert, made, writing, writing_once, equal)


def measure(options: PrepareSpeed) -> tuple[list[Timed], dict[str, str]]:
    """The times of the scores that both ways prepare, and what became of the others."""
    results: list[Timed] = []
    left_out: dict[str, str] = {}
    files = choose(options.folder, options.scores)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contextlib.suppress(ScoreError, official_preprocessing.Failed):
            time_score(files[0], folder)
        for path in track(files, "timing", console=Console(stderr=True)):
            shutil.rmtree(folder / "ours", ignore_errors=True)
            try:
                results.append(time_score(path, folder))
            except ScoreError as error:
                left_out[str(path)] = f"ours refuses it: {error.reason}"
            except official_preprocessing.Failed as error:
                left_out[str(path)] = f"only ours prepares it; the official steps fail ({error})"
    if not results:
        raise NotaGenError(f"{options.folder}: no score that both ways prepare")
    return results, left_out


def report(results: list[Timed], left_out: dict[str, str]) -> dict[str, Any]:
    """Totals, pieces a second and ratios, JSON-ready."""
    ours = sum(one.ours for one in results)
    once = sum(one.convert + one.texts + one.writing_once for one in results)
    stands = sum(one.convert + one.texts + one.writing for one in results)
    ratios = [(one.convert + one.texts + one.writing) / one.ours for one in results]
    return {
        "scores": len(results),
        "texts_equal": sum(one.equal for one in results),
        "unequal": [one.score for one in results if not one.equal],
        "ours_pieces_a_second": len(results) / ours,
        "official_pieces_a_second": len(results) / stands,
        "official_loop_mended_pieces_a_second": len(results) / once,
        "official_share_of_converter": sum(one.convert for one in results) / stands,
        "official_share_of_writing": sum(one.writing for one in results) / stands,
        "ratio": stands / ours,
        "ratio_loop_mended": once / ours,
        "ratio_by_score_quartiles": statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3,
        "left_out": left_out,
        "seconds": [dataclasses.asdict(one) for one in results],
    }


def prepare_speed(options: PrepareSpeed) -> None:
    """Time both ways, print pieces a second, the ratios and how they were measured."""
    figures = report(*measure(options))
    table = Table(title=f"{figures['scores']} scores from {options.folder}")
    for heading in ("", "pieces a second", "ours is faster by"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("ours", f"{figures['ours_pieces_a_second']:.2f}", "")
    for label, of in (("official, as it stands", ""), ("official, loop mended", "_loop_mended")):
        table.add_row(
            label, f"{figures[f'official{of}_pieces_a_second']:.2f}", f"{figures[f'ratio{of}']:.1f} ×"
        )
    console = Console()
    console.print(table)
    low, middle, high = figures["ratio_by_score_quartiles"]
    console.print(f"score by score: {middle:.1f} × ({low:.1f} … {high:.1f})")
    console.print(f"texts equal: {figures['texts_equal']} of {figures['scores']} scores × 16 texts")
    for path, reason in figures["left_out"].items():
        console.print(f"left out: {path}: {reason}", highlight=False)
    console.print(METHOD, highlight=False)
    if options.json:
        write_atomic(options.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    try:
        prepare_speed(tyro.cli(PrepareSpeed, prog="python -m eval.prepare_speed"))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
