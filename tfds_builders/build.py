"""Builds a data set: `python -m tfds_builders.build --builder classical --config music21 --data-dir DIR`."""

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from notagen_jax.cores import usable_cores
from notagen_jax.errors import NotaGenError
from notagen_jax.score.batch import SECONDS_A_PIECE

UNSOURCED = {"classical": ("music21", "openscore"), "pretrain": ("music21",)}
"""Configurations that need no --source."""
UNMANAGED = "music21"
"""The configuration that takes none."""


@dataclass(frozen=True)
class Build:
    """Convert scores into a TFDS data set of 15 keys a piece; a build that was cut short goes on."""

    data_dir: Path
    """Folder of the data sets; this one is written to DIR/notagen_BUILDER/CONFIG/VERSION."""
    builder: Literal["classical", "pretrain"] = "classical"
    """classical: with period, composer and instrumentation; pretrain: any scores, without labels."""
    config: str = "music21"
    """music21 (the corpus of that package), openscore (classical only), folder, or with --source any
    name for the data set."""
    source: Path | None = None
    """Folder of the scores; for classical it holds a metadata.csv (path,composer and period or born,died;
    instrumentation, title). For openscore: the repositories, or a folder with an index.tsv, instead of
    the download."""
    processes: int = field(default_factory=lambda: min(8, usable_cores()))
    """Scores converted at the same time."""
    seconds: float = SECONDS_A_PIECE
    """Longest time for one score."""
    beam: bool = False
    """Convert and write on Apache Beam."""
    beam_options: str = "--runner=DirectRunner"
    """Pipeline options of Apache Beam, in one string; the folders must be seen by every worker."""
    keep_journal: bool = False
    """Keep what has been converted (DIR/…/VERSION.journal), for a later build of more scores."""


def run(options: Build) -> int:
    """Build the data set, print the account. Raises `NotaGenError`."""
    import tensorflow_datasets as tfds
    from absl import logging

    from tfds_builders.journal import TODO

    _check(options)
    builder_class = _builder_class(options.builder)
    named = any(config.name == options.config for config in builder_class.BUILDER_CONFIGS)
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of any config that its class does not list
    with _progress() as tell:
        builder = builder_class(
            config=options.config if named else tfds.core.BuilderConfig(name=options.config),
            data_dir=options.data_dir,
            file_format="array_record",
            source=str(options.source or ""),
            processes=options.processes,
            seconds=options.seconds,
            beam=options.beam_options if options.beam else None,
            tell=tell,
        )
        directory = Path(builder.data_dir)
        if directory.exists():
            raise NotaGenError(
                f"{directory}: already built; remove it, or choose another --data-dir or --config"
            )
        with _alone(builder.journal):
            killed = directory.parent.glob(f"incomplete.*_{directory.name}")
            for stale in (*killed, *builder.journal.glob(f"{TODO}*")):
                shutil.rmtree(stale)
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # TFDS's own two lines
                    builder.download_and_prepare()
            except OSError as error:
                raise NotaGenError(f"{options.data_dir}: cannot write ({error.strerror or error})") from error
            if not options.keep_journal:
                shutil.rmtree(builder.journal)
    print_account(directory)
    return 0


def _check(options: Build) -> None:
    """Raise `NotaGenError` for options that do not go together."""
    if options.config == UNMANAGED and options.source is not None:
        raise NotaGenError("--source goes with --config folder (or another name), not with music21")
    if options.config not in UNSOURCED[options.builder] and options.source is None:
        with_table = " and a metadata.csv" if options.builder == "classical" else ""
        raise NotaGenError(f"--config {options.config} needs --source, a folder with scores{with_table}")
    if options.builder == "pretrain" and options.config == "openscore":
        raise NotaGenError("--config openscore goes with --builder classical; give pretrain its folder")
    if options.processes < 1:
        raise NotaGenError(f"--processes {options.processes}: must be at least 1")
    if not options.seconds > 0:
        raise NotaGenError(f"--seconds {options.seconds:g}: must be more than 0")


def _builder_class(name: str) -> Any:
    if name == "pretrain":
        from tfds_builders.notagen_pretrain import notagen_pretrain_dataset_builder as module
    else:
        from tfds_builders.notagen_classical import (  # type: ignore[no-redef]
            notagen_classical_dataset_builder as module,
        )
    return module.Builder


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """A bar with the time to go for each part of the build, as the builder tells of it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(file=sys.stdout), redirect_stdout=False) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield tell


@contextlib.contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """Hold the journal's lock; raises `NotaGenError` when another build of this data set has it."""
    try:
        journal.mkdir(parents=True, exist_ok=True)
        lock = (journal / "lock").open("w")
    except OSError as error:
        raise NotaGenError(f"{journal}: cannot write ({error.strerror or error})") from error
    with lock:
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotaGenError(f"{journal}: another build of this data set is running") from error
        yield


def print_account(directory: Path) -> None:
    """Print how many scores were found, kept in each split, and dropped for each reason."""
    from notagen_jax.score.listing import by_suffix
    from tfds_builders.score_builder import CARD, REPORT

    report = json.loads((directory / REPORT).read_text(encoding="utf-8"))
    splits = ", ".join(f"{count} {split}" for split, count in report["pieces_by_split"].items())
    print(f"{report['found']} scores = {report['kept']} kept ({splits}) + {report['dropped']} dropped")
    for reason, files in report["dropped_by_reason"].items():
        shown = ", ".join(files[:3]) + (", …" if len(files) > 3 else "")
        print(f"  {len(files):5d} dropped: {reason}: {shown}")
    if others := report["other_files"]:
        print(f"  {len(others):5d} other files, which are no scores: {by_suffix(others)}")
    print(f"written to {directory} (scores by reason in {REPORT}, pieces by prompt in {CARD})")


def main() -> int:
    """Entry point: one line of error and status 1 for what the user can mend, 130 after an interrupt."""
    try:
        return run(tyro.cli(Build, prog="python -m tfds_builders.build"))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
