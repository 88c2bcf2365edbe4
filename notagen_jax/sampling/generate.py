"""Sampling whole pieces: prompts in, text out (paper section 3.1).

The host reads prompts into rows, lets the device draw a chunk of patches at a time, starts new
windows where they are full, and gives the row of a finished piece to the next prompt.
"""

import collections
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.sampling.decode import (
    CHUNK_PATCHES,
    PREFILL_PATCHES,
    Filters,
    Rows,
    attention_block,
    decode_chunk,
    empty_cache,
    prefill,
    unstack,
)
from notagen_jax.sampling.piece import GrowingPiece
from notagen_jax.sampling.settings import (
    Progress,
    Sample,
    SamplingInterrupted,
    SamplingSettings,
)
from notagen_jax.sampling.windows import body_has_begun

WATCHED_PATCHES = 8
"""Patches drawn by one call where bars are drawn again: what follows a bar that fails is lost."""


def generate(
    config: ModelConfig,
    params: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: SamplingSettings | None = None,
    progress: Callable[[Progress], object] | None = None,
    batch_size: int | None = None,
) -> list[Sample]:
    """Sample one piece for each prompt, with a seed each; in the order of the prompts.

    params:     parameters of `NotaGen(config)`
    prompts:    metadata lines such as `%Baroque\\n%Bach, Johann Sebastian\\n%Choral\\n`, or any prefix of
                a piece in reduced form with stream headers, which is gone on from
    seeds:      integers of at most 64 bits
    progress:   called after each chunk of patches; a KeyboardInterrupt that it raises stops the run
    batch_size: rows that are drawn together; None chooses (`default_batch_size`)

    For several calls with the same parameters make a `Sampler` once. Raises `NotaGenError` on
    prompts, seeds or sizes that cannot work, `SamplingInterrupted` with the pieces so far on Ctrl-C.
    """
    _check(prompts, seeds)
    width = default_batch_size(len(prompts)) if batch_size is None else batch_size
    return Sampler(config, params, width).generate(prompts, seeds, settings, progress)


def default_batch_size(pieces: int) -> int:
    """Rows for so many pieces: a power of 2, so that few programs are compiled.

    On a CPU 2 to 16: there the matrix products of 2 to 16 rows give each row the same bits whatever
    their number, and one row costs what two do. An accelerator takes up to 64.
    """
    smallest, largest = (2, 16) if jax.default_backend() == "cpu" else (1, 64)
    return min(max(1 << (pieces - 1).bit_length(), smallest), largest)


class Sampler:
    """Parameters laid out for decoding and a cache of `batch_size` rows, kept between calls.

    Whatever shares the batch, a row's numbers stay the same bits, so a seed gives the same piece for
    a given `batch_size`. Under another one, matrix products may round differently (see
    `default_batch_size`), which can turn a draw about once in a million characters.
    """

    def __init__(self, config: ModelConfig, params: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise NotaGenError(f"batch size must be at least 1, got {batch_size}")
        self.config = config
        self.batch_size = batch_size
        self._block = attention_block(config)
        self._weights = unstack(config, params)
        self._cache = empty_cache(config, batch_size, self._block)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: SamplingSettings | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> list[Sample]:
        """As the function `generate`, with this sampler's parameters and batch size."""
        _check(prompts, seeds)
        settings = settings or SamplingSettings()
        filters = Filters(
            np.int32(settings.top_k), np.float32(settings.top_p), np.float32(settings.temperature)
        )
        waiting = collections.deque(
            GrowingPiece(self.config, index, prompt, seed, settings)
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        )
        pieces = list(waiting)
        chunk = CHUNK_PATCHES if settings.bar_attempts == 1 else WATCHED_PATCHES
        placed: dict[int, GrowingPiece] = {}
        rows = _no_rows(self.batch_size)
        started = time.monotonic()
        try:
            while waiting or placed:
                for row in range(self.batch_size):
                    if row not in placed and waiting:
                        placed[row] = waiting.popleft()
                        placed[row].start()
                        self._open_window(rows, row, placed[row])
                # No row draws past its limit by more than the others' need.
                steps = min(chunk, _most_left(placed.values()) or chunk)
                self._cache, *results = decode_chunk(
                    self.config, self._block, self._weights, self._cache, rows, filters, np.int32(steps)
                )
                rows, drawn, counts = jax.device_get(results)
                # The rows are written to below, and arrays from the device are read-only.
                rows = Rows(*(np.array(field) for field in rows))
                moved = []
                for row, piece in list(placed.items()):
                    if piece.add(drawn[row, : counts[row]]):
                        self._open_window(rows, row, piece)
                    full = piece.sample is None and rows.length[row] >= self.config.patch_length
                    if full and piece.overflow():
                        self._open_window(rows, row, piece)
                    if piece.sample is not None:
                        rows.active[row] = False
                        del placed[row]
                    moved.append(piece.report())
                if progress is not None:
                    stopped = sum(piece.sample is not None for piece in pieces)
                    characters = sum(piece.characters for piece in pieces)
                    seconds = time.monotonic() - started
                    progress(Progress(tuple(moved), stopped, len(pieces), characters, seconds))
        except KeyboardInterrupt as interrupt:
            # The cache may have been given away to a program that did not hand it back.
            self._cache = empty_cache(self.config, self.batch_size, self._block)
            for piece in pieces:
                piece.stop("interrupted")
            begun = [piece.sample for piece in pieces if piece.sample is not None]
            raise SamplingInterrupted(begun) from interrupt
        return [piece.sample for piece in pieces if piece.sample is not None]

    def _open_window(self, rows: Rows, row: int, piece: GrowingPiece) -> None:
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
        rows.length[row] = len(patches)
        rows.active[row] = True
        rows.begun[row] = body_has_begun(piece.text)
        rows.drawn[row] = piece.drawn
        rows.key[row] = (piece.seed >> 32) & 0xFFFFFFFF, piece.seed & 0xFFFFFFFF
        rows.tail[row] = 0
        rows.tail[row, : len(tail)] = tail
        rows.tail_length[row] = len(tail)


def _most_left(pieces: Iterable[GrowingPiece]) -> int | None:
    """The most patches that any of the pieces may still draw; None where one has no limit."""
    left = [piece.patches_left for piece in pieces]
    return max(n for n in left if n is not None) if None not in left else None


def _check(prompts: Sequence[str], seeds: Sequence[int]) -> None:
    if isinstance(prompts, str):
        raise NotaGenError("prompts must be a list of texts, got one text; put it in a list")
    if not prompts:
        raise NotaGenError("no prompt to sample from: give at least one")
    if len(prompts) != len(seeds):
        raise NotaGenError(f"{len(prompts)} prompts but {len(seeds)} seeds: each piece needs its own")
    for seed in seeds:
        if not 0 <= seed < 1 << 64:
            raise NotaGenError(f"seed {seed}: must be an integer from 0 to 2**64 - 1")


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
