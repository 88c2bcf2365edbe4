"""Batches of pairs: chosen × rejected of each prompt, drawn uniformly, pure in (seed, step)."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import encode_piece, window
from train.dpo.preferences import Preference

BUCKET = 64
"""Batches are padded to multiples of so many patches: few lengths, so few programs are compiled."""


class Encoded(NamedTuple):
    """A piece of the preference data as the model reads it."""

    preference: Preference
    patches: np.ndarray
    """uint8 (n, 16), n at most the window."""


def encode(preferences: Sequence[Preference], length: int, seed: int) -> list[Encoded]:
    """The pieces in patches, at most `length` of them.

    A longer piece is cut to one window (head, middle or tail, as in training) that is a function of
    the seed and its name: the official code draws another one each time, but then the reference's
    log-probability would have to be computed each time too. Raises `NotaGenError` on a piece that
    cannot be encoded.
    """
    encoded = []
    for preference in preferences:
        try:
            piece = encode_piece(preference.text)
        except NotaGenError as error:
            raise NotaGenError(f"{preference.prompt}, {preference.name}: {error}") from error
        digest = hashlib.sha256(f"{preference.prompt}\0{preference.name}".encode()).digest()
        rng = np.random.default_rng((seed, int.from_bytes(digest[:8], "big")))
        encoded.append(Encoded(preference, window(piece, length, rng)))
    return encoded


def bucket(patches: int, length: int) -> int:
    """The padded length for so many patches, at most `length`."""
    return min(-(-patches // BUCKET) * BUCKET, length)


def pad(pieces: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Pieces uint8 (n, 16) as rows uint8 (B, length, 16), zeros after them."""
    rows = np.zeros((len(pieces), length, PATCH_SIZE), np.uint8)
    for row, patches in zip(rows, pieces, strict=True):
        row[: len(patches)] = patches
    return rows


class PairLoader:
    """The loop's `Batches` for DPO: any chosen and any rejected piece of one prompt, each pair as likely."""

    def __init__(
        self,
        pieces: Sequence[Encoded],
        log_probs: np.ndarray,
        rows: int,
        length: int,
        seed: int,
    ) -> None:
        """`log_probs` float32 (n,) are the reference's of the pieces; a batch has `rows` pairs."""
        self.pieces = pieces
        self.log_probs = np.asarray(log_probs, np.float32)
        self.rows = rows
        self.length = length
        self.seed = seed
        sides: dict[str, tuple[list[int], list[int]]] = {}
        for index, (preference, _) in enumerate(pieces):
            chosen, rejected = sides.setdefault(preference.prompt, ([], []))
            (chosen if preference.verdict == "chosen" else rejected).append(index)
        self._sides = [(np.array(c), np.array(r)) for c, r in sides.values() if c and r]
        # The pairs of all prompts stand in one line, prompt after prompt.
        self._ends = np.cumsum([len(chosen) * len(rejected) for chosen, rejected in self._sides])

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        """Digest of all that the batches depend on."""
        digest = hashlib.sha256(repr((self.rows, self.length, self.seed)).encode())
        for preference, patches in self.pieces:
            digest.update(repr((preference.prompt, preference.name, preference.verdict)).encode())
            digest.update(patches.tobytes())
        digest.update(self.log_probs.tobytes())
        return digest.hexdigest()[:16]

    def pair(self, number: int) -> tuple[int, int]:
        """Pieces (chosen, rejected) of a pair, by their places in `pieces`."""
        group = int(np.searchsorted(self._ends, number, side="right"))
        chosen, rejected = self._sides[group]
        place = number - (int(self._ends[group - 1]) if group else 0)
        return int(chosen[place // len(rejected)]), int(rejected[place % len(rejected)])

    def drawn(self, step: int) -> list[tuple[int, int]]:
        """The pairs of the global batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        return [self.pair(int(number)) for number in rng.integers(self.pairs, size=self.rows)]

    def batch(self, pairs: Sequence[tuple[int, int]], length: int) -> dict[str, np.ndarray]:
        """Pairs as arrays.

        patches uint8 (B, 2, length, 16), the chosen piece first; segments int32 (B, 2, length), 1 where
        there is a patch; reference float32 (B, 2), the reference's log-probabilities.
        """
        flat = [index for pair in pairs for index in pair]
        patches = pad([self.pieces[index].patches for index in flat], length)
        segments = np.zeros(patches.shape[:2], np.int32)
        for row, index in zip(segments, flat, strict=True):
            row[: len(self.pieces[index].patches)] = 1
        count = len(pairs)
        return {
            "patches": patches.reshape(count, 2, length, PATCH_SIZE),
            "segments": segments.reshape(count, 2, length),
            "reference": self.log_probs[flat].reshape(count, 2),
        }

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches from a step on: this process's contiguous share of the rows of each."""
        share = self.rows // processes
        while True:
            pairs = self.drawn(step)
            longest = max(len(self.pieces[index].patches) for pair in pairs for index in pair)
            yield self.batch(pairs[process * share : (process + 1) * share], bucket(longest, self.length))
            step += 1

    def names(self, step: int) -> list[str]:
        """The pieces in the batch of a step."""
        return [
            f"{self.pieces[index].preference.prompt}: {self.pieces[index].preference.name}"
            for pair in self.drawn(step)
            for index in pair
        ]
