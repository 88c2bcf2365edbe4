"""Pieces of built data sets as M3 reads them, drawn as a pure function of (seed, step, row)."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from notagen_jax.clamp2.m3_patches import encode, remove_instruments
from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.notation.restore import restore_rests
from notagen_jax.score import KEYS
from train.clamp2_config import ScoreDataConfig
from train.corpus import Corpus, without_long
from train.keys import choose_key

HostBatch = dict[str, np.ndarray]

CACHED = 4096
"""Pieces kept in memory as text and as patches, about 20 KB each."""


def in_half(name: str, half: str) -> bool:
    """Whether the piece of this name is trained on under `ScoreDataConfig.half`.

    By a hash of the name alone, so that a piece stays in its half when the corpus grows.
    """
    side = "first" if hashlib.sha256(name.encode()).digest()[0] % 2 == 0 else "second"
    return half in ("all", side)


class ScorePieces:
    """Draws pieces with their labels: the part that both trainings' `Batches` share."""

    def __init__(
        self, corpora: Sequence[Corpus], config: ScoreDataConfig, patch_size: int, seed: int
    ) -> None:
        """Raises `NotaGenError` when no piece is left, or fewer than a batch holds."""
        self.corpora = [without_long(corpus, config) for corpus in corpora]
        self.config = config
        self.seed = seed
        weights = config.weights or (1,) * len(self.corpora)
        self.pieces = [
            (number, piece)
            for number, corpus in enumerate(self.corpora)
            for piece in range(len(corpus))
            if in_half(self.name(number, piece), config.half)
        ]
        if len(self.pieces) < config.rows:
            raise NotaGenError(
                f"{len(self.pieces)} pieces to train on, fewer than data.rows ({config.rows}); "
                "give more data or smaller batches"
            )
        prompts = [self.corpora[number].label(piece) for number, piece in self.pieces]
        counts = Counter(prompts)
        chances = np.array(
            [
                weights[number] * counts[prompt] ** -config.balance
                for (number, _), prompt in zip(self.pieces, prompts, strict=True)
            ]
        )
        self._chances = chances / chances.sum()
        self._patch_size = patch_size
        self._text = lru_cache(CACHED)(self._restored)
        self._encoded = lru_cache(CACHED)(self._encode)

    @property
    def fingerprint(self) -> str:
        """Digest of all that the order of the pieces depends on."""
        sizes = [(corpus.name, len(corpus)) for corpus in self.corpora]
        settings = dataclasses.replace(self.config, sources=())
        return hashlib.sha256(repr((sizes, settings, self.seed)).encode()).hexdigest()[:16]

    def name(self, corpus: int, piece: int) -> str:
        """The stable name of a piece."""
        return self.corpora[corpus].piece_name(piece)

    def names(self, step: int) -> list[str]:
        """The pieces in the whole batch of update `step`."""
        return [self.name(*self.pieces[index]) for index in self.drawn(step)]

    def drawn(self, step: int) -> np.ndarray:
        """Numbers of the pieces in the batch of update `step`, no piece twice: int64 (rows,)."""
        rng = np.random.default_rng((self.seed, step))
        return rng.choice(len(self.pieces), self.config.rows, replace=False, p=self._chances)

    def share(self, step: int, process: int, processes: int) -> Iterator[tuple[int, np.random.Generator]]:
        """The rows of one host: the number of a piece, and the generator of all that is drawn for it."""
        rows = self.config.rows // processes
        for row, index in list(enumerate(self.drawn(step)))[process * rows :][:rows]:
            yield int(index), np.random.default_rng((self.seed, step, row))

    def prompt(self, index: int) -> Prompt:
        """The labels of a piece."""
        number, piece = self.pieces[index]
        return Prompt(*self.corpora[number].label(piece))

    def patches(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """A piece in a key drawn by `config.keys`, at most `config.length` patches: uint8 (n, S)."""
        number, piece = self.pieces[index]
        key = choose_key(self.corpora[number].original_key(piece), self.config.keys, rng)
        hidden = bool(rng.random() < self.config.hide_instruments)
        return cut(self._encoded(number, piece, key, hidden), self.config.length, rng)

    def head(self, index: int) -> np.ndarray:
        """The head of a piece in its own key, instruments named, as for held-out pieces: uint8 (n, S)."""
        number, piece = self.pieces[index]
        key = self.corpora[number].original_key(piece)
        return self._encoded(number, piece, key, False)[: self.config.length]

    def _restored(self, number: int, piece: int, key: int) -> str:
        return restore_rests(self.corpora[number].text(piece, key, False))

    def _encode(self, number: int, piece: int, key: int, hidden: bool) -> np.ndarray:
        try:
            text = self._text(number, piece, key)
            return encode(remove_instruments(text) if hidden else text, self._patch_size)
        except NotaGenError as error:
            raise NotaGenError(
                f"{self.corpora[number].name}, {self.name(number, piece)} in {KEYS[key]}: {error}"
            ) from error


def cut(patches: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """At most `length` patches of a longer piece: its head, its tail or a part between, a third each."""
    if len(patches) <= length:
        return patches
    way = str(rng.choice(["head", "tail", "middle"]))
    last = len(patches) - length
    start = {"head": 0, "tail": last, "middle": int(rng.integers(1, last + 1))}[way]
    return patches[start : start + length]


def padded(pieces: Sequence[np.ndarray], length: int) -> HostBatch:
    """Rows of a batch: patches uint8 (rows, length, S) and segments int32 (rows, length), 0 at padding."""
    patches = np.zeros((len(pieces), length, pieces[0].shape[1]), np.uint8)
    segments = np.zeros((len(pieces), length), np.int32)
    for row, piece in enumerate(pieces):
        patches[row, : len(piece)] = piece
        segments[row, : len(piece)] = 1
    return {"patches": patches, "segments": segments}
