"""Builds a data set: `python -m tfds_builders.build --config music21 --data-dir DIR`."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.batch import SECONDS_A_PIECE

REPORT = "build_report.json"


@dataclass(frozen=True)
class Build:
    """Convert labelled scores into a TFDS data set of 15 keys a piece."""

    data_dir: Path
    """Folder of the data sets; this one is written to DIR/notagen_classical/CONFIG/VERSION."""
    config: str = "music21"
    """music21 (the corpus of that package), folder, or with --source any name for the data set."""
    source: Path | None = None
    """Folder with scores and a metadata.csv (path,composer,instrumentation and period or born,died)."""
    processes: int = field(default=1)
    """Scores converted at the same time."""
    seconds: float = SECONDS_A_PIECE
    """Longest time for one score."""


def run(options: Build) -> int:
    """Build the data set, write its report beside it and print the account. Raises `NotaGenError`."""
    import tensorflow_datasets as tfds
    from absl import logging
    from rich.progress import Progress

    from tfds_builders.notagen_classical.notagen_classical_dataset_builder import Builder

    if options.config == "music21" and options.source is not None:
        raise NotaGenError("--source goes with --config folder (or another name), not with music21")
    if options.config != "music21" and options.source is None:
        raise NotaGenError(
            f"--config {options.config} needs --source, a folder with scores and a metadata.csv"
        )
    if options.processes < 1:
        raise NotaGenError(f"--processes {options.processes}: must be at least 1")
    named = any(config.name == options.config for config in Builder.BUILDER_CONFIGS)
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of any config that its class does not list
    with Progress() as bar:
        task = bar.add_task("converting", total=None)
        builder = Builder(
            config=options.config if named else tfds.core.BuilderConfig(name=options.config),
            data_dir=options.data_dir,
            file_format="array_record",
            source=str(options.source or ""),
            processes=options.processes,
            seconds=options.seconds,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        directory = Path(builder.data_dir)
        if directory.exists():
            raise NotaGenError(
                f"{directory}: already built; remove it, or choose another --data-dir or --config"
            )
        try:
            builder.download_and_prepare()
        except OSError as error:
            raise NotaGenError(f"{options.data_dir}: cannot write ({error.strerror or error})") from error
    report = {"directory": str(directory), **builder.account.report()}
    write_atomic(directory / REPORT, json.dumps(report, indent=1) + "\n")
    print_account(report)
    return 0


def print_account(report: dict[str, Any]) -> None:
    """Print how many scores were found, kept in each split, and dropped for each reason."""
    splits = ", ".join(f"{count} {split}" for split, count in report["pieces_by_split"].items())
    print(f"{report['found']} scores = {report['kept']} kept ({splits}) + {report['dropped']} dropped")
    for reason, files in report["dropped_by_reason"].items():
        shown = ", ".join(files[:3]) + (", …" if len(files) > 3 else "")
        print(f"  {len(files):5d} dropped: {reason}: {shown}")
    print(f"written to {report['directory']} (files by reason in {REPORT})")


def main() -> int:
    """Entry point: one line of error and status 1 for what the user can mend."""
    try:
        return run(tyro.cli(Build))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
