"""Pieces drawn together: the rows of one batch, their cache on the device, their state on the host."""

import collections
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.sampling.decode import (
    PREFILL_PATCHES,
    Cache,
    Filters,
    Rows,
    Weights,
    attention_block,
    decode_chunk,
    empty_cache,
    prefill,
)
from notagen_jax.sampling.piece import GrowingPiece
from notagen_jax.sampling.settings import PieceProgress
from notagen_jax.sampling.windows import body_has_begun

CPU_SAME_BITS = (2, 16)
"""Numbers of rows between which a CPU's matrix products give each row the same bits."""
NARROW = 4
"""Rows that a batch of the most rows goes on with where no more hold a piece and none waits. A program of
its own to compile; narrower batches are not worth one."""


class Batch:
    """One batch of rows, kept between runs."""

    def __init__(self, config: ModelConfig, weights: Weights, width: int) -> None:
        """A batch of `width` rows."""
        self.config = config
        self.full_width = width
        self.placed: dict[int, GrowingPiece] = {}
        """The piece in each row that is under way."""
        self._block = attention_block(config)
        self._weights = weights
        self._rows = _no_rows(width)
        self._cache = empty_cache(config, width, self._block)

    def open(self) -> None:
        """Make all rows ready for new pieces."""
        self.placed = {}
        if self.width != self.full_width:
            self._cache = empty_cache(self.config, self.full_width, self._block)
        self._rows = _no_rows(self.full_width)

    @property
    def width(self) -> int:
        """Rows that it has now."""
        return len(self._rows.active)

    def fill(self, waiting: collections.deque[GrowingPiece], most: int) -> None:
        """Put waiting pieces into free rows, at most `most` under way in all; or go on with fewer rows."""
        for row in range(self.width):
            if row not in self.placed and waiting and len(self.placed) < most:
                self.placed[row] = waiting.popleft()
                self.placed[row].start()
                self._open_window(row, self.placed[row])
        # As many rows as give each row the same bits, so on a CPU alone.
        wide = jax.default_backend() == "cpu" and self.width == CPU_SAME_BITS[1]
        if wide and not waiting and 0 < len(self.placed) <= NARROW:
            self._narrow(NARROW)

    def draw(self, filters: Filters, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw at most so many patches in every row that holds a piece, of which there must be one.

        Returns what was drawn, uint8 (rows, CHUNK_PATCHES, 16), and how many of each row, int32 (rows,).
        """
        # No row draws past its limit by more than the others' need.
        steps = min(most, _most_left(self.placed.values()) or most)
        self._cache, *results = decode_chunk(
            self.config, self._block, self._weights, self._cache, self._rows, filters, np.int32(steps)
        )
        rows, drawn, counts = jax.device_get(results)
        # The rows are written to below, and arrays from the device are read-only.
        self._rows = Rows(*(np.array(field) for field in rows))
        return drawn, counts

    def take(self, drawn: np.ndarray, counts: np.ndarray) -> list[PieceProgress]:
        """Give the pieces what was drawn, and free the rows of those that stop; how far all have come."""
        moved = []
        for row, piece in list(self.placed.items()):
            if piece.add(drawn[row, : counts[row]]):
                self._open_window(row, piece)
            full = piece.sample is None and self._rows.length[row] >= self.config.patch_length
            if full and piece.overflow():
                self._open_window(row, piece)
            if piece.sample is not None:
                self._rows.active[row] = False
                del self.placed[row]
            moved.append(piece.report())
        return moved

    def _narrow(self, width: int) -> None:
        """Go on with `width` rows, which hold all pieces that are under way."""
        under_way = list(self.placed)
        free = [row for row in range(self.width) if row not in self.placed]
        kept = np.array((under_way + free)[:width])
        self._cache = _of_rows(self._cache, kept)
        self._rows = Rows(*(field[kept] for field in self._rows))
        self.placed = {place: self.placed[row] for place, row in enumerate(under_way)}

    def _open_window(self, row: int, piece: GrowingPiece) -> None:
        """Read what the cache lacks of a piece's window into a row of it, and set the row's state.

        The last patch is always read: what the row draws next hangs on its vector.
        """
        patches, tail = piece.window
        known = min(piece.cached, len(patches) - 1)
        for start in range(known - known % PREFILL_PATCHES, len(patches), PREFILL_PATCHES):
            part = patches[start : start + PREFILL_PATCHES]
            padded = np.zeros((PREFILL_PATCHES, PATCH_SIZE), np.uint8)
            padded[: len(part)] = part
            self._cache = prefill(
                self.config,
                self._weights,
                self._cache,
                np.int32(row),
                padded,
                np.int32(start),
                np.int32(len(part)),
            )
        piece.cached = len(patches)
        rows = self._rows
        rows.length[row] = len(patches)
        rows.active[row] = True
        rows.begun[row] = body_has_begun(piece.text)
        rows.drawn[row] = piece.drawn
        rows.key[row] = (piece.seed >> 32) & 0xFFFFFFFF, piece.seed & 0xFFFFFFFF
        rows.tail[row] = 0
        rows.tail[row, : len(tail)] = tail
        rows.tail_length[row] = len(tail)


@jax.jit
def _of_rows(cache: Cache, kept: np.ndarray) -> Cache:
    return jax.tree.map(lambda leaf: jnp.take(leaf, kept, axis=0), cache)


def _most_left(pieces: Iterable[GrowingPiece]) -> int | None:
    """The most patches that any of the pieces may still draw; None where one has no limit."""
    left = [piece.patches_left for piece in pieces]
    return max(n for n in left if n is not None) if None not in left else None


def _no_rows(width: int) -> Rows:
    return Rows(
        length=np.zeros(width, np.int32),
        active=np.zeros(width, bool),
        begun=np.zeros(width, bool),
        drawn=np.zeros(width, np.int32),
        key=np.zeros((width, 2), np.uint32),
        tail=np.zeros((width, PATCH_SIZE), np.uint8),
        tail_length=np.zeros(width, np.int32),
    )
