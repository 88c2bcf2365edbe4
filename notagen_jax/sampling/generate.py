"""Sampling whole pieces: prompts in, text out (paper section 3.1).

The host reads prompts into rows, lets the device draw a chunk of patches at a time, starts new
windows where they are full, and gives the row of a finished piece to the next prompt. On a CPU
batches are drawn side by side, one a core: the small products of decoding do not fill several.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np

from notagen_jax.config import ModelConfig
from notagen_jax.cores import usable_cores
from notagen_jax.errors import NotaGenError
from notagen_jax.sampling.batch import CPU_SAME_BITS, Batch
from notagen_jax.sampling.decode import CHUNK_PATCHES, Filters, unstack
from notagen_jax.sampling.piece import GrowingPiece
from notagen_jax.sampling.settings import (
    Progress,
    Sample,
    SamplingInterrupted,
    SamplingSettings,
)

WATCHED_PATCHES = 8
"""Patches drawn by one call where bars are drawn again: what follows a bar that fails is lost."""
SIDE_BY_SIDE_BYTES = 2**31
"""Most that the caches of batches side by side take; one batch may take more."""


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
    batch_size: rows that are drawn together; None chooses (`default_batch_size`). A CPU draws several
                batches at once (`side_by_side`)

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
    smallest, largest = CPU_SAME_BITS if jax.default_backend() == "cpu" else (1, 64)
    return min(max(1 << (pieces - 1).bit_length(), smallest), largest)


def side_by_side(config: ModelConfig, batch_size: int, pieces: int) -> int:
    """How many batches of so many rows are drawn at once: on a CPU one a core, as far as pieces go round.

    Where a row's cache is large, so is a batch's work, and it fills several cores alone.
    """
    if jax.default_backend() != "cpu":
        return 1
    positions = config.patch_layers * config.patch_length * config.hidden_size
    cache = 2 * batch_size * positions * np.dtype(config.dtype).itemsize
    return max(min(usable_cores(), -(-pieces // batch_size), SIDE_BY_SIDE_BYTES // cache), 1)


class Sampler:
    """Parameters laid out for decoding and caches of `batch_size` rows, kept between calls.

    Whatever shares the batch, a row's numbers stay the same bits, so a seed gives the same piece for
    a given `batch_size`. Under another one, matrix products may round differently (see
    `default_batch_size`), which can turn a draw about once in a million characters.
    """

    def __init__(self, config: ModelConfig, params: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise NotaGenError(f"batch size must be at least 1, got {batch_size}")
        self.config = config
        self.batch_size = batch_size
        self._weights = unstack(config, params)
        self._batches: list[Batch] = []

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
        batches = self._opened(side_by_side(self.config, self.batch_size, len(pieces)))
        share = -(-len(pieces) // len(batches))
        # Threads have a default device of their own; that of the weights is meant, where they are on one.
        devices = jax.tree.leaves(self._weights)[0].devices()

        def draw(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
            with jax.default_device(next(iter(devices))) if len(devices) == 1 else contextlib.nullcontext():
                return batch.draw(filters, chunk)

        started = time.monotonic()
        drawing: dict[futures.Future, Batch] = {}
        try:
            with futures.ThreadPoolExecutor(len(batches)) as threads:
                while waiting or drawing or any(batch.placed for batch in batches):
                    for batch in batches:
                        if batch in drawing.values():
                            continue
                        batch.fill(waiting, share)
                        if batch.placed:
                            drawing[threads.submit(draw, batch)] = batch
                    futures.wait(drawing, return_when=futures.FIRST_COMPLETED)
                    for done in [future for future in drawing if future.done()]:
                        moved = drawing.pop(done).take(*done.result())
                        if progress is not None:
                            stopped = sum(piece.sample is not None for piece in pieces)
                            characters = sum(piece.characters for piece in pieces)
                            seconds = time.monotonic() - started
                            progress(Progress(tuple(moved), stopped, len(pieces), characters, seconds))
        except BaseException as error:
            # A cache may have been given away to a program that did not hand it back.
            self._batches.clear()
            if not isinstance(error, KeyboardInterrupt):
                raise
            for piece in pieces:
                piece.stop("interrupted")
            begun = [piece.sample for piece in pieces if piece.sample is not None]
            raise SamplingInterrupted(begun) from error
        return [piece.sample for piece in pieces if piece.sample is not None]

    def _opened(self, count: int) -> list[Batch]:
        """So many batches, ready for a run; others are let go."""
        del self._batches[count:]
        while len(self._batches) < count:
            self._batches.append(Batch(self.config, self._weights, self.batch_size))
        for batch in self._batches:
            batch.open()
        return self._batches


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
