"""Exports a built data set: `python -m tfds_builders.export FOLDER FILE.npz`.

The file trains like the folder does, on machines that have neither TFDS nor array_record.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS
from tfds_builders.exported import SUFFIX, write_exported
from tfds_builders.selection import SPLITS
from train.corpus import Corpus, has_held_out, open_corpus


@dataclass(frozen=True)
class Export:
    """Write a built data set as one file that numpy alone reads."""

    source: tyro.conf.Positional[Path]
    """Folder of a built data set."""
    out: tyro.conf.Positional[Path]
    """The file to write, ending .npz."""


def run(options: Export) -> int:
    """Export the splits of a data set. Raises `NotaGenError`."""
    if options.out.suffix != SUFFIX:
        raise NotaGenError(f"{options.out}: name a file that ends {SUFFIX}")
    folder = str(options.source)
    names = SPLITS if has_held_out(folder) else SPLITS[:1]
    corpora = {split: open_corpus(folder, split) for split in names}
    splits = {split: (corpus.index, _pieces(corpus)) for split, corpus in corpora.items()}
    write_exported(str(options.out), corpora["train"].name, splits)
    counts = ", ".join(f"{len(corpus)} {split}" for split, corpus in corpora.items())
    print(f"{options.out}: {counts}, {os.path.getsize(options.out) / 2**20:.1f} MiB")
    return 0


def _pieces(corpus: Corpus) -> Iterator[list[dict[str, Any]]]:
    """The rows of each piece, with a bar of progress."""
    from rich.progress import track

    for piece in track(range(len(corpus)), description=corpus.name):
        yield [corpus.rows[len(KEYS) * piece + key] for key in range(len(KEYS))]


def main() -> int:
    """Entry point: one line of error and status 1 for what the user can mend."""
    try:
        return run(tyro.cli(Export, prog="python -m tfds_builders.export"))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
