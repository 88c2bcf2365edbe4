"""Patches a second that the loader makes on one core, and how much of a batch is padding.

    python -m eval.loader_speed data/notagen_classical/music21/2.0.0 …
    python -m eval.loader_speed FOLDER --workers 8 --length 2048

Takes built data sets; without any, the scores in tests/data, converted first. Grain's own rate with
several processes is printed beside it when --workers asks for some.
"""

import dataclasses
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.score import read_piece
from train.config import DataConfig
from train.corpus import Corpus, open_corpus
from train.data import HostBatch, Loader
from train.packing import RowOrder

SCORES = Path(__file__).parent.parent / "tests" / "data"
CORES = 16
GOAL = 150_000
"""Patches a second that one H200 is estimated to take at the `small` size."""
METHOD = (
    "A patch counts where it is no padding. The rate per core is patches over the processor time of the "
    "whole process while batches are made one after the other, reading, decoding, encoding and packing "
    "included; median over batches, with the quartiles."
)


@dataclass(frozen=True)
class LoaderSpeed:
    """Time the loader on data sets."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Folders of built data sets; none: the scores in tests/data."""
    keys: str = "uniform"
    """uniform, near or original."""
    prompts: bool = False
    """Whether the texts begin with their labels."""
    rows: int = 4
    """Rows of a batch."""
    length: int = 1024
    """Patches of a row."""
    seconds: float = 5.0
    """How long each form is timed."""
    workers: int = 0
    """Grain processes to time as well."""
    many: int = 1_600_000
    """Pieces of the large corpus whose order is timed; that many are in the paper's pre-training set."""


def made_corpus() -> Corpus:
    """The scores of tests/data as rows in memory."""
    rows = []
    for path in sorted(SCORES.glob("*.mxl")):
        piece = read_piece(path)
        labels = {"name": path.name, "composer": "", "period": "", "instrumentation": ""}
        for text in piece.reduced_all().values():
            row = {field: value.encode() for field, value in {**labels, "text": text}.items()}
            rows.append({**row, "original_key": 1})
    return Corpus("tests/data", rows)


def patches(batch: HostBatch) -> int:
    """Patches of a batch that are no padding."""
    return int(np.count_nonzero(batch["segments"]))


def rate_per_core(loader: Loader, seconds: float) -> list[float]:
    """Patches a second of processor time, a figure a batch."""
    loader.batch(0)
    rates: list[float] = []
    end, step = time.perf_counter() + seconds, 1
    while time.perf_counter() < end or len(rates) < 3:
        began = time.process_time()
        made = patches(loader.batch(step))
        rates.append(made / (time.process_time() - began))
        step += 1
    return rates


def rate_of_workers(loader: Loader, seconds: float) -> float:
    """Patches a second of wall time with Grain's processes, once they run."""
    batches = loader.batches(0)
    for _ in range(4 * loader.config.workers):
        next(batches)
    began, made = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        made += patches(next(batches))
    spent = time.perf_counter() - began
    batches.close()  # type: ignore[attr-defined]
    return made / spent


def start_of_many(length: int, pieces: int) -> tuple[float, float]:
    """Seconds and MiB that the order of a large corpus takes until its first row is known."""
    room = np.random.default_rng(0).lognormal(5.6, 1.0, pieces).astype(np.int32) + 8
    room = np.minimum(room, length)
    tracemalloc.start()
    began = time.process_time()
    RowOrder(room, length, "auto", seed=0).row(0)
    seconds = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak / 2**20


def run(options: LoaderSpeed) -> None:
    """Print the figures. Raises `NotaGenError` when a data set cannot be read."""
    corpora = [open_corpus(folder, "train") for folder in options.sources] or [made_corpus()]
    config = DataConfig(keys=options.keys, prompts=options.prompts, rows=options.rows, length=options.length)  # type: ignore[arg-type]
    pieces = sum(map(len, corpora))
    print(f"{', '.join(corpus.name for corpus in corpora)}: {pieces} pieces, rows of {options.length}")
    print("form      padding     patches/s per core             16 cores")
    paddings = {}
    for form, packed in (("packed", True), ("unpacked", False)):
        settings = dataclasses.replace(config, packing="on" if packed else "off")
        loader = Loader(corpora, settings, seed=0)
        rates = rate_per_core(loader, options.seconds)
        low, middle, high = statistics.quantiles(rates, n=4)
        batches = [loader.batch(step) for step in range(8)]
        paddings[form] = 1 - sum(map(patches, batches)) / (8 * options.rows * options.length)
        print(
            f"{form:9} {100 * paddings[form]:6.1f} %  {middle:10,.0f} ({low:,.0f} … {high:,.0f})"
            f"  {CORES * middle:12,.0f}  ({CORES * middle / GOAL:.1f} × the goal)"
        )
    order = Loader(corpora, config, seed=0).order
    print(f"chosen by itself: {'packed' if order.packed else 'unpacked'}, {order.rows} rows an epoch")
    if options.workers:
        loader = Loader(corpora, dataclasses.replace(config, workers=options.workers), seed=0)
        print(
            f"Grain, {options.workers} processes: {rate_of_workers(loader, options.seconds):,.0f} patches/s"
        )
    seconds, mebibytes = start_of_many(options.length, options.many)
    print(f"order of {options.many:,} pieces: {seconds:.1f} s, {mebibytes:.0f} MiB")
    print(METHOD)


if __name__ == "__main__":
    try:
        run(tyro.cli(LoaderSpeed, prog="python -m eval.loader_speed"))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
