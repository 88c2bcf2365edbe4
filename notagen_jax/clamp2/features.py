"""Features of scores and texts under a CLaMP 2 model, in few compiled programs.

A piece is cut into segments (`m3_patches.segments`), and its feature is their weighted mean (official
extraction procedure). Segments of about one length share a batch, so little padding is computed.

On a CPU the layers run one by one, in as many batches at once as there are cores. A scan over layers
would copy each layer's weights out of the stack, and one batch on all cores leaves some of them idle
between and inside operations; a program of one layer compiles fast, so that lengths can be padded less.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax.clamp2 import m3_patches
from notagen_jax.clamp2.config import TEXT_PAD, Clamp2Config
from notagen_jax.clamp2.model import Clamp2Model, Tower, layer_of
from notagen_jax.clamp2.tokenizer import Tokenizer, join_lines
from notagen_jax.cores import usable_cores
from notagen_jax.errors import NotaGenError

Progress = Callable[[int, int], None]
"""Called with how many segments are done, and how many there are."""

Run = Callable[[np.ndarray, np.ndarray], jax.Array]
"""Maps a padded batch (rows, bucket, …) and its mask bool (rows, bucket) to features (rows, width)."""
Row = tuple[int, float, np.ndarray]
"""A segment: the piece it is of, its weight, and its patches or tokens."""

CPU_BUCKETS, BUCKETS = 32, 8
"""Lengths are padded to multiples of this part of the longest, so that few programs are compiled."""
CPU_POSITIONS, ROWS = 256, 64
"""Positions of a batch on a CPU, which gains nothing from more, and rows of a batch elsewhere."""


@dataclasses.dataclass(frozen=True)
class Clamp2:
    """A CLaMP 2 (or M3) model in memory."""

    config: Clamp2Config
    params: dict[str, Any]
    """Parameter tree of `notagen_jax.clamp2.model.Clamp2Model`, float32 numpy arrays."""
    source: Path
    """Where it was opened."""
    tokenizer: Tokenizer | None = None
    """Of the text tower; scores need none."""

    def music_features(
        self,
        texts: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
        projected: bool = True,
    ) -> np.ndarray:
        """Features of scores, float32 (n, width): 768 for the official model.

        `texts` are interleaved ABC (rests written out: see `notagen_jax.notation.restore`) or CLaMP
        2's text form of MIDI. They are not normalised. Without `projected`, the mean vectors of the
        music tower itself: M3 features, (n, hidden_size), what an M3 file gives anyway. `batch_size`
        is the most segments of a batch. Raises `NotaGenError` naming the first text that has no music.
        """
        pieces = []
        for number, text in enumerate(texts, 1):
            try:
                pieces.append(m3_patches.encode(text, self.config.patch_size))
            except NotaGenError as error:
                raise NotaGenError(f"text {number} of {len(texts)}: {error}") from error
        return self.patch_features(pieces, batch_size=batch_size, progress=progress, projected=projected)

    def patch_features(
        self,
        pieces: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
        projected: bool = True,
    ) -> np.ndarray:
        """`music_features` of pieces that are patches already, uint8 (n_i, patch_size) each."""
        run = self._runner("music", projected)
        width = self.config.width if projected else self.config.hidden_size
        return _pooled(pieces, self.config.patch_length, m3_patches.PAD, width, run, batch_size, progress)

    def text_features(
        self,
        texts: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Features of texts, float32 (n, feature_size), in the space of `music_features`.

        The different lines of a text are joined by the separator token. Raises `NotaGenError` when
        the model has no text tower, or no tokenizer of it was given.
        """
        tokenizer = self._text_tokenizer()
        tokens = [np.array(tokenizer.encode(join_lines(text)), np.int32) for text in texts]
        most = max((int(ids.max()) for ids in tokens), default=0)
        if most >= self.config.text_vocabulary:
            raise NotaGenError(
                f"{self.source}: the tokenizer gives token {most}, but the text tower has "
                f"{self.config.text_vocabulary}; give the tokenizer that it was trained with"
            )
        run = self._runner("text")
        length, width = self.config.text_length, self.config.feature_size
        return _pooled(tokens, length, TEXT_PAD, width, run, batch_size, progress)

    def _runner(self, tower: Tower, projected: bool = True) -> Run:
        """The program of a tower on this backend."""
        run = _layer_by_layer if jax.default_backend() == "cpu" else _at_once
        return partial(run, self.config, tower, projected, self._on_device[tower])

    @cached_property
    def _on_device(self) -> dict[str, Any]:
        """The parameters of each tower and its projection, put on the device once.

        On a CPU the layers stand apart, under `layers`, and in the tower there are none.
        """
        placed: dict[str, Any] = {}
        for tower in ("music", "text"):
            params = {
                name: self.params[name] for name in (tower, f"{tower}_projection") if name in self.params
            }
            if tower in params and jax.default_backend() == "cpu":
                encoder = dict(params[tower]["encoder"])
                layers = encoder.pop("layers")
                params[tower] = {**params[tower], "encoder": encoder}
                depth = len(jax.tree.leaves(layers)[0])
                params["layers"] = [jax.tree.map(lambda x, i=i: x[i], layers) for i in range(depth)]
            placed[tower] = jax.device_put(params)
        return placed

    def _text_tokenizer(self) -> Tokenizer:
        if not self.config.has_text:
            raise NotaGenError(f"{self.source}: an M3 model has no text tower; give the weights of CLaMP 2")
        if self.tokenizer is None:
            raise NotaGenError(
                f"{self.source}: text features need the tokenizer of the text tower, which is not in a "
                ".pth file; give the folder of XLM-RoBERTa (tokenizer.json or sentencepiece.bpe.model): "
                "clamp2.load(path, tokenizer=FOLDER), or `notagen convert … --tokenizer FOLDER` once"
            )
        if not self.config.text_heads:
            raise NotaGenError(
                f"{self.source}: the attention heads of a text tower of width "
                f"{self.config.text_hidden_size} cannot be told from its weights; give a tokenizer folder "
                "that holds the text model's config.json"
            )
        return self.tokenizer


@partial(jax.jit, static_argnums=(0, 1, 2))
def _at_once(
    config: Clamp2Config, tower: Tower, projected: bool, params: Any, inputs: Any, mask: Any
) -> jax.Array:
    def whole(model: Clamp2Model) -> jax.Array:
        return model.pooled(tower, getattr(model, tower)(inputs, mask), mask, projected)

    return jnp.asarray(Clamp2Model(config).apply({"params": params}, method=whole))


def _layer_by_layer(
    config: Clamp2Config, tower: Tower, projected: bool, params: Any, inputs: Any, mask: Any
) -> jax.Array:
    outside = {name: tree for name, tree in params.items() if name != "layers"}
    x = _start(config, tower, outside, inputs)
    for layer in params["layers"]:
        x = _layer(config, tower, layer, x, mask)
    return _pool(config, tower, projected, outside, x, mask)


@partial(jax.jit, static_argnums=(0, 1))
def _start(config: Clamp2Config, tower: Tower, params: Any, inputs: Any) -> jax.Array:
    started = Clamp2Model(config).apply({"params": params}, tower, inputs, method="started")
    return jnp.asarray(started)


@partial(jax.jit, static_argnums=(0, 1))
def _layer(config: Clamp2Config, tower: Tower, params: Any, x: Any, mask: Any) -> jax.Array:
    made, _ = layer_of(config, tower).apply({"params": params}, x, mask[:, None, None, :], True)
    return jnp.asarray(made)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _pool(
    config: Clamp2Config, tower: Tower, projected: bool, params: Any, vectors: Any, mask: Any
) -> jax.Array:
    pooled = Clamp2Model(config).apply({"params": params}, tower, vectors, mask, projected, method="pooled")
    return jnp.asarray(pooled)


def _pooled(
    pieces: Sequence[np.ndarray],
    length: int,
    pad: int,
    width: int,
    run: Run,
    batch_size: int | None,
    progress: Progress | None,
) -> np.ndarray:
    """Weighted means (n, width) of the features of the segments of `pieces`, arrays (n_i, …)."""
    if batch_size is not None and batch_size < 1:
        raise NotaGenError(f"batch_size must be at least 1, got {batch_size}")
    rows: list[Row] = []
    for number, piece in enumerate(pieces):
        parts, weights = m3_patches.segments(piece, length)
        rows += [(number, float(weight), part) for part, weight in zip(parts, weights, strict=True)]
    batches = _batches(rows, length, batch_size)

    def compute(batch: list[Row], height: int, bucket: int) -> np.ndarray:
        inputs = np.full((height, bucket, *batch[0][2].shape[1:]), pad, batch[0][2].dtype)
        mask = np.zeros((height, bucket), bool)
        for row, (_, _, part) in enumerate(batch):
            inputs[row, : len(part)] = part
            mask[row, : len(part)] = True
        return np.asarray(run(inputs, mask))

    sums = np.zeros((len(pieces), width), np.float32)
    totals = np.zeros((len(pieces), 1), np.float32)
    done = 0
    threads = ThreadPoolExecutor(usable_cores() if jax.default_backend() == "cpu" else 1)
    try:
        results = collections.deque(threads.submit(compute, *batch) for batch in batches)
        for batch, _, _ in batches:
            features = results.popleft().result()  # let go of as it is read
            for row, (number, weight, _) in enumerate(batch):
                sums[number] += weight * features[row]
                totals[number] += weight
            done += len(batch)
            if progress is not None:
                progress(done, len(rows))
    finally:
        threads.shutdown(cancel_futures=True)
    return sums / totals if len(pieces) else sums


def _batches(rows: list[Row], length: int, batch_size: int | None) -> list[tuple[list[Row], int, int]]:
    """Rows in batches, the longest first, each with the height and length that it is padded to."""
    on_cpu = jax.default_backend() == "cpu"
    step = -(-length // (CPU_BUCKETS if on_cpu else BUCKETS))
    rows = sorted(rows, key=lambda row: -len(row[2]))
    batches, start = [], 0
    while start < len(rows):
        bucket = min(-(-len(rows[start][2]) // step) * step, length)
        most = batch_size or (max(CPU_POSITIONS // bucket, 1) if on_cpu else ROWS)
        batch = rows[start : start + most]
        # The last batch shrinks to a power of two, so that a single piece is not computed as many.
        batches.append((batch, min(1 << (len(batch) - 1).bit_length(), most), bucket))
        start += most
    return batches
