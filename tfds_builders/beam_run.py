"""The two heavy parts of a build on Apache Beam: converting scores, and writing the files of a split.

Both work through folders that every worker sees (a local disk, or a shared or mounted file system):
the journal and the data set. The pipelines themselves pass on nothing but the names of small files
that say what to do, so their size does not grow with the corpus.
"""

import logging
import pickle
import shlex
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from notagen_jax.errors import NotaGenError
from notagen_jax.score.batch import Done, run_isolated
from tfds_builders import shards
from tfds_builders.conversion import convert
from tfds_builders.journal import TODO, LineCount, new_segment
from tfds_builders.shards import Shard
from tfds_builders.works import Work

BUNDLES = 64
"""Bundles that a corpus is cut into, as long as they are of a fitting size."""
SCORES_A_BUNDLE = (8, 256)
"""Fewest and most scores that a worker converts as one; the most is what is lost when it dies."""
_QUIET = "--default_sdk_harness_log_level=ERROR"
SECONDS_A_LOOK = 2.0
"""Time between two looks at how far the workers are."""


def convert_all(
    works: Sequence[Work], journal: str, seconds: float, options: str, told: Callable[[int], None]
) -> None:
    """Convert scores on Beam into the journal; `told(n)` says how many have been.

    `options` are pipeline options (`--runner=… …`). Raises `NotaGenError` when the pipeline fails; what
    its workers had finished is in the journal.
    """
    fewest, most = SCORES_A_BUNDLE
    size = min(most, max(fewest, -(-len(works) // BUNDLES)))
    bundles = [tuple(works[start : start + size]) for start in range(0, len(works), size)]
    lines, finished = LineCount(journal), threading.Event()

    def watch() -> None:
        while not finished.wait(SECONDS_A_LOOK):
            told(min(lines.added(), len(works)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _run(bundles, _Convert(journal, seconds), journal, options)
    finally:
        finished.set()
        watcher.join()
    told(len(works))


def write_all(files: Sequence[Shard], features: Any, writer: Any, options: str) -> None:
    """Write the files of a data set on Beam. Raises `NotaGenError` when the pipeline fails."""
    _run(files, _Write(features, writer), files[0].journal, options)


class _Convert:
    """Converts a bundle of scores into a segment of the journal."""

    def __init__(self, journal: str, seconds: float) -> None:
        self._journal, self._seconds = journal, seconds

    def __call__(self, works: tuple[Work, ...]) -> None:
        with new_segment(self._journal) as segment:
            for outcome in run_isolated(convert, map(segment.begin, works), 1, self._seconds):
                segment.add(outcome.item, outcome.value if isinstance(outcome, Done) else outcome.refusal)


class _Write:
    """Writes one file of a data set."""

    def __init__(self, features: Any, writer: Any) -> None:
        self._features, self._writer = features, writer

    def __call__(self, shard: Shard) -> None:
        shards.write(shard, self._features, self._writer)


def _run(items: Sequence[Any], work: Callable[[Any], None], folder: str, options: str) -> None:
    """Call `work` on every item, spread over a pipeline's workers; `folder` holds the items meanwhile."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise NotaGenError("--beam needs Apache Beam: pip install 'notagen-jax[beam]'") from error
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TODO, dir=folder) as todo:
        paths = []
        for number, item in enumerate(items):
            paths.append(f"{todo}/{number:06d}.pickle")
            Path(paths[-1]).write_bytes(pickle.dumps(item))
        try:
            # The user's own options come last and win.
            settings = PipelineOptions([_QUIET, *shlex.split(options)])
            with beam.Pipeline(options=settings) as pipeline:
                _ = pipeline | beam.Create(paths) | beam.Reshuffle() | beam.Map(_Task(work))
        except (ValueError, ImportError) as error:  # no such runner, or one that lacks an option or a package
            raise NotaGenError(f"--beam-options {options!r}: {' '.join(str(error).split())}") from error
        except RuntimeError as error:  # what a runner makes of whatever ended its workers
            reason = str(error).strip().splitlines()[-1]
            raise NotaGenError(
                f"the Beam pipeline failed ({reason}); the same command goes on from here"
            ) from error


class _Task:
    """Reads what to do from a file, and does it."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work = work

    def __call__(self, path: str) -> None:
        self._work(pickle.loads(Path(path).read_bytes()))
