"""Sampling whole pieces: prompts in, text out (paper section 3.1).

The host reads prompts into rows, lets the device draw a chunk of patches at a time, starts new
windows where they are full, and gives the row of a finished piece to the next prompt.
"""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import Continuation, decode, encode_continuation, is_end
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
from notagen_jax.sampling.settings import (
    PieceProgress,
    Progress,
    Sample,
    SamplingInterrupted,
    SamplingSettings,
)
from notagen_jax.sampling.windows import body_has_begun, next_window

FINISHED = "the piece came to its end"


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
            _Piece(self.config, index, prompt, seed, settings)
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        )
        pieces = list(waiting)
        placed: dict[int, _Piece] = {}
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
                steps = min(CHUNK_PATCHES, max(piece.patches_left for piece in placed.values()))
                self._cache, *results = decode_chunk(
                    self.config, self._block, self._weights, self._cache, rows, filters, np.int32(steps)
                )
                rows, drawn, counts = jax.device_get(results)
                # The rows are written to below, and arrays from the device are read-only.
                rows = Rows(*(np.array(field) for field in rows))
                moved = []
                for row, piece in list(placed.items()):
                    piece.add(drawn[row, : counts[row]])
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

    def _open_window(self, rows: Rows, row: int, piece: "_Piece") -> None:
        """Read a piece's window into a row of the cache and set the row's state."""
        patches, tail = piece.window
        for start in range(0, len(patches), PREFILL_PATCHES):
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
        rows.length[row] = len(patches)
        rows.active[row] = True
        rows.begun[row] = body_has_begun(piece.text)
        rows.drawn[row] = piece.drawn
        rows.key[row] = (piece.seed >> 32) & 0xFFFFFFFF, piece.seed & 0xFFFFFFFF
        rows.tail[row] = 0
        rows.tail[row, : len(tail)] = tail
        rows.tail_length[row] = len(tail)


class _Piece:
    """One piece on the host: its text so far, its window and its limits."""

    def __init__(
        self, config: ModelConfig, index: int, prompt: str, seed: int, settings: SamplingSettings
    ) -> None:
        self.config = config
        self.index = index
        self.seed = seed
        self.settings = settings
        self.prompt = prompt
        self.text = prompt
        self.drawn = 0
        self.kept_lines: int | None = None
        self.sample: Sample | None = None
        self.begun = False
        self.started = 0.0
        self.window = self._first_window()

    def _first_window(self) -> Continuation:
        try:
            window = encode_continuation(self.text)
        except NotaGenError as error:
            raise NotaGenError(f"prompt {self.index + 1}: {error}") from error
        if len(window.patches) < self.config.patch_length:
            return window
        shorter = next_window(self.config, self.text, None)
        if shorter is None:
            raise NotaGenError(
                f"prompt {self.index + 1}: {len(window.patches)} patches do not fit the model's window of "
                f"{self.config.patch_length}; shorten it"
            )
        window, self.kept_lines = shorter
        return window

    @property
    def patches_left(self) -> int:
        """Patches it may still draw (a large number without a limit)."""
        limit = self.settings.max_patches
        return CHUNK_PATCHES if limit is None else limit - self.drawn

    def start(self) -> None:
        """Begin to count its time."""
        self.begun = True
        self.started = time.monotonic()

    def add(self, patches: np.ndarray) -> None:
        """Take what the device drew, uint8 (n, 16), up to the end or the first limit."""
        settings = self.settings
        for patch in patches:
            self.drawn += 1
            if is_end(patch):
                return self.stop(FINISHED, finished=True)
            new = patch.copy()
            new[: len(self.window.tail)] = 0
            self.text += decode(new)
            self.window = Continuation(self.window.patches, self.window.tail[:0])
            if len(self.text) > settings.max_chars:
                return self.stop(f"given up: longer than {settings.max_chars} characters")
            if self.drawn == settings.max_patches:
                return self.stop(f"stopped after {self.drawn} patches, as asked")
        if time.monotonic() - self.started > settings.max_seconds:
            self.stop(f"given up: not finished after {settings.max_seconds:g} seconds")

    def overflow(self) -> bool:
        """Start the next window; False, and the piece is given up, when nothing can be dropped."""
        following = next_window(self.config, self.text, self.kept_lines)
        if following is None:
            self.stop("given up: the window is full, and no line of the tune body can be dropped")
            return False
        self.window, self.kept_lines = following
        return True

    def stop(self, reason: str, finished: bool = False) -> None:
        """Fix the result, unless it is fixed already or the piece was never begun."""
        if self.sample is None and self.begun:
            seconds = time.monotonic() - self.started
            self.sample = Sample(self.text, finished, reason, self.drawn, seconds, self.seed)

    @property
    def characters(self) -> int:
        """Characters drawn so far."""
        return len(self.text) - len(self.prompt)

    def report(self) -> PieceProgress:
        """How far it has come."""
        return PieceProgress(self.index, self.seed, self.drawn, self.text, self.sample)


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
