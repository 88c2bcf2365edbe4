"""TFDS builder `notagen_classical`: classical scores in 15 keys with period, composer, instrumentation.

Runs without TensorFlow (array_record files). Row `15 * piece + key` of a split is one piece in one
key, keys in the order of `notagen_jax.score.KEYS`; `text` is the rest-reduced ABC in that key,
without the prompt lines and the stream headers, which the training input adds.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from notagen_jax.errors import NotaGenError
from notagen_jax.score.batch import SECONDS_A_PIECE, Refused, run_isolated
from notagen_jax.score.piece import read_piece
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.spelling import KEYS
from tfds_builders.notagen_classical.folder_works import folder_works
from tfds_builders.notagen_classical.music21_works import music21_works
from tfds_builders.notagen_classical.works import Listing, Work, split_works

MAX_STAVES = 16
"""Pieces with more staves are left out (paper §3.1)."""


@dataclass
class Account:
    """What became of every file offered: `found == sum(kept) + sum(dropped)`."""

    found: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, file: str) -> None:
        """Count a file that gives no rows."""
        self.dropped.setdefault(reason, []).append(file)

    def summary(self) -> str:
        """The reasons with their counts, on one line."""
        counts = sorted(((len(files), reason) for reason, files in self.dropped.items()), reverse=True)
        return ", ".join(f"{count} {reason}" for count, reason in counts)

    def report(self) -> dict[str, Any]:
        """The account as JSON-ready values."""
        return {
            "found": self.found,
            "kept": sum(self.kept.values()),
            "pieces_by_split": self.kept,
            "dropped": sum(map(len, self.dropped.values())),
            "dropped_by_reason": {
                reason: sorted(files)
                for reason, files in sorted(self.dropped.items(), key=lambda entry: -len(entry[1]))
            },
        }


@dataclass(frozen=True)
class Converted:
    """A work's texts by key, in the order of `KEYS`, and the index of its original key."""

    original_key: int
    texts: tuple[str, ...]


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds the data set from music21's corpus, or from the folder `source` with a metadata.csv."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "15 keys a piece, splits by work."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="music21", description="The classical scores of music21's corpus."),
        tfds.core.BuilderConfig(name="folder", description="A folder with scores and a metadata.csv."),
    ]

    def __init__(
        self,
        *,
        source: str = "",
        processes: int = 1,
        seconds: float = SECONDS_A_PIECE,
        progress: Callable[[int, int], None] | None = None,
        **arguments: Any,
    ) -> None:
        """`progress(done, total)` is called after each score; the rest goes to the TFDS builder."""
        self._source, self._processes, self._seconds = source, processes, seconds
        self._progress = progress or (lambda done, total: None)
        self._seen: dict[bytes, str] = {}
        self._done = self._total = 0
        self.account = Account()
        super().__init__(**arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "name": tfds.features.Text(doc="Stable id: the file's path in its collection."),
                    "composer": tfds.features.Text(doc='"Last, First", ASCII.'),
                    "period": tfds.features.Text(),
                    "instrumentation": tfds.features.Text(),
                    "original_key": tfds.features.Scalar(np.int32, doc="Index of the score's own key."),
                    "key": tfds.features.Scalar(np.int32, doc="Index of this row's key."),
                    "text": tfds.features.Text(doc="Rest-reduced interleaved ABC."),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        listing = self._listing()
        self.account = Account(
            found=len(listing.works) + sum(map(len, listing.left_out.values())),
            dropped=listing.left_out,
        )
        if not listing.works:
            raise NotaGenError("no labelled score to build from")
        works = sorted(listing.works, key=lambda work: work.name)
        self._seen, self._done, self._total = {}, 0, len(works)
        splits: dict[str, Iterator[tuple[int, dict[str, Any]]]] = {}
        for split, side in split_works(works).items():
            # TFDS cannot write a split without rows, and a small folder may have none that can be read.
            examples = self._generate_examples(split, side)
            first = next(examples, None)
            if first is not None:
                splits[split] = itertools.chain([first], examples)
        if not splits:
            raise NotaGenError(
                f"none of the {len(works)} labelled scores can be used; {self.account.summary()}"
            )
        return splits

    def _listing(self) -> Listing:
        if self._source:
            return folder_works(self._source)
        if self.builder_config.name != "music21":
            raise NotaGenError(f"config {self.builder_config.name} needs a source folder with a metadata.csv")
        return music21_works()

    def _generate_examples(self, split: str, works: list[Work]) -> Iterator[tuple[int, dict[str, Any]]]:
        row = 0
        self.account.kept[split] = 0
        for outcome in run_isolated(convert, works, self._processes, self._seconds):
            work = outcome.item
            self._done += 1
            self._progress(self._done, self._total)
            if isinstance(outcome, Refused):
                self.account.drop(outcome.refusal.reason, work.name)
                continue
            if self._is_duplicate(work, outcome.value):
                self.account.drop("same music as another score", work.name)
                continue
            self.account.kept[split] += 1
            for key, text in enumerate(outcome.value.texts):
                yield (
                    row,
                    {
                        "name": work.name,
                        "composer": work.prompt.composer,
                        "period": work.prompt.period,
                        "instrumentation": work.prompt.instrumentation,
                        "original_key": outcome.value.original_key,
                        "key": key,
                        "text": text,
                    },
                )
                row += 1

    def _is_duplicate(self, work: Work, converted: Converted) -> bool:
        """Whether an earlier score has the same bars in C (so that a transposed copy counts too)."""
        text = converted.texts[KEYS.index("C")]
        digest = hashlib.sha256(text[max(text.find("[V:"), 0) :].encode()).digest()
        return self._seen.setdefault(digest, work.name) != work.name


def convert(work: Work) -> Converted:
    """Read one work in 15 keys; raises `ScoreError` when it is refused."""
    piece = read_piece(work.path)
    if piece.staves > MAX_STAVES:
        raise ScoreError(f"more than {MAX_STAVES} staves", f"{piece.staves}", str(work.path))
    return Converted(KEYS.index(piece.original_key), tuple(piece.reduced_all().values()))
