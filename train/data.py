"""Batches of pieces: which, in which key, in which row, as a pure function of (seed, step).

The stream of rows has no end and no state: row r is found from r alone (`train.packing`), so update
`step` reads rows `step * rows …` whatever ran before, on however many hosts.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import encode_piece, window
from notagen_jax.score import KEYS
from train.config import DataConfig
from train.corpus import Corpus, longest_patches, without_long
from train.keys import choose_key
from train.packing import RowOrder
from train.prefetch import ahead

HostBatch = dict[str, np.ndarray]


class Item(NamedTuple):
    """One piece in one place of the stream."""

    corpus: int
    piece: int
    key: int
    window: np.random.Generator | None
    """Draws the part of a piece that is longer than a row; None takes its head."""


class Loader:
    """Batches from weighted corpora: the `Batches` of the likelihood stages."""

    def __init__(self, corpora: Sequence[Corpus], config: DataConfig, seed: int) -> None:
        """Reads the indices of the corpora, not their texts.

        Raises `NotaGenError` when an index is broken, no piece of a corpus is short enough for
        `config.longest`, or prompts are asked of a corpus without labels.
        """
        self.corpora = [without_long(corpus, config) for corpus in corpora]
        self.config = config
        self.seed = seed
        weights = config.weights or (1,) * len(self.corpora)
        room = [
            np.tile(self._room(corpus), weight) for corpus, weight in zip(self.corpora, weights, strict=True)
        ]
        self._ends = np.cumsum([len(part) for part in room])
        self.order = RowOrder(np.concatenate(room), config.length, config.packing, seed)

    def _room(self, corpus: Corpus) -> np.ndarray:
        """Patches that each piece may take of a row, whichever of its possible keys is drawn: int32."""
        if self.config.prompts:
            unlabelled = np.flatnonzero(corpus.index["prompt"] == 0)
            if len(unlabelled):
                raise NotaGenError(
                    f"{corpus.name}: {corpus.piece_name(int(unlabelled[0]))} has no labels "
                    f"({len(unlabelled)} of {len(corpus)} pieces); turn data.prompts off"
                )
        longest = longest_patches(corpus, self.config.keys, self.config.prompts)
        return np.minimum(longest, self.config.length).astype(np.int32)

    @property
    def fingerprint(self) -> str:
        """Digest of all that the order of the data depends on."""
        settings = dataclasses.replace(self.config, sources=(), workers=0)
        digest = hashlib.sha256(repr((settings, self.seed)).encode())
        for corpus in self.corpora:
            digest.update(f"{corpus.name} {len(corpus)}".encode())
            digest.update(corpus.index.tobytes())
        return digest.hexdigest()[:16]

    def row_items(self, number: int) -> list[Item]:
        """The pieces in row `number` (from 0) of the endless stream, and what becomes of them."""
        epoch, numbers = self.order.row(number)
        items = []
        for item in numbers:
            corpus = int(np.searchsorted(self._ends, item, side="right"))
            start = int(self._ends[corpus - 1]) if corpus else 0
            piece = (item - start) % len(self.corpora[corpus])
            rng = np.random.default_rng((self.seed, epoch, item))
            key = choose_key(self.corpora[corpus].original_key(piece), self.config.keys, rng)
            items.append(Item(corpus, piece, key, rng))
        return items

    def encode(self, item: Item) -> np.ndarray:
        """uint8 (n, 16), n ≤ length: a piece in its key, cut if it is longer.

        Raises `NotaGenError` naming a piece that cannot be encoded.
        """
        corpus = self.corpora[item.corpus]
        try:
            piece = encode_piece(corpus.text(item.piece, item.key, self.config.prompts))
        except NotaGenError as error:
            name = corpus.piece_name(item.piece)
            raise NotaGenError(f"{corpus.name}, {name} in {KEYS[item.key]}: {error}") from error
        if item.window is None:
            return piece.patches[: self.config.length]
        return window(piece, self.config.length, item.window)

    def rows(self, rows: Sequence[Sequence[Item]]) -> HostBatch:
        """Rows of pieces as arrays: patches uint8 (rows, length, 16), segments int32 (rows, length).

        Segments number the pieces of a row from 1 and are 0 in padding.
        """
        patches = np.zeros((len(rows), self.config.length, PATCH_SIZE), np.uint8)
        segments = np.zeros((len(rows), self.config.length), np.int32)
        for row, items in enumerate(rows):
            start = 0
            for number, item in enumerate(items, 1):
                encoded = self.encode(item)
                patches[row, start : start + len(encoded)] = encoded
                segments[row, start : start + len(encoded)] = number
                start += len(encoded)
        return {"patches": patches, "segments": segments}

    def batch(self, step: int, process: int = 0, processes: int = 1) -> HostBatch:
        """The batch of update `step` (from 0): this process's contiguous share of its rows.

        The shares of all processes, one after the other, are the batch of a single process. Raises
        `NotaGenError` when the rows do not divide.
        """
        share, rest = divmod(self.config.rows, processes)
        if rest:
            raise NotaGenError(f"data.rows ({self.config.rows}) must be a multiple of {processes} processes")
        first = step * self.config.rows + process * share
        return self.rows([self.row_items(row) for row in range(first, first + share)])

    def batches(self, step: int = 0, process: int = 0, processes: int = 1) -> Iterator[HostBatch]:
        """Endless batches from update `step` on, made ahead of need by `DataConfig.workers` processes."""
        return ahead(_Share(self, process, processes), step, self.config.workers)

    def names(self, step: int) -> list[str]:
        """The pieces in the global batch of update `step`, each as `corpus: name in key`."""
        first = step * self.config.rows
        return [
            f"{self.corpora[item.corpus].name}: {self.corpora[item.corpus].piece_name(item.piece)} "
            f"in {KEYS[item.key]}"
            for row in range(first, first + self.config.rows)
            for item in self.row_items(row)
        ]


@dataclasses.dataclass(frozen=True)
class _Share:
    """Makes one process's batches by step; goes to worker processes as it is."""

    loader: Loader
    process: int
    processes: int

    def __call__(self, step: int) -> HostBatch:
        return self.loader.batch(step, self.process, self.processes)


def held_out_batches(corpus: Corpus, config: DataConfig, most_rows: int) -> list[HostBatch]:
    """The held-out pieces of a corpus in their own keys, cut at the head, the same at every call.

    At most `most_rows` rows; the last batch is filled up with empty rows.
    """
    settings = dataclasses.replace(config, keys="original", sources=(), weights=(), longest=0)
    try:
        short = without_long(corpus, config)
    except NotaGenError as error:
        raise NotaGenError(f"held-out pieces: {error}") from error
    loader = Loader([short], settings, seed=0)
    rows = [
        [item._replace(window=None) for item in loader.row_items(row)]
        for row in range(min(loader.order.rows, most_rows))
    ]
    rows += [[]] * (-len(rows) % config.rows)
    return [loader.rows(rows[start : start + config.rows]) for start in range(0, len(rows), config.rows)]
