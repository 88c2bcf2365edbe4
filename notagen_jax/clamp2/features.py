"""Features of scores and texts under a CLaMP 2 model, in few compiled programs.

A piece is cut into segments (`m3_patches.segments`), and its feature is their weighted mean (official
extraction procedure). Segments of about one length share a batch, so little padding is computed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax.clamp2 import m3_patches
from notagen_jax.clamp2.config import TEXT_PAD, Clamp2Config
from notagen_jax.clamp2.model import Clamp2Model
from notagen_jax.clamp2.tokenizer import Tokenizer, join_lines
from notagen_jax.errors import NotaGenError

Progress = Callable[[int, int], None]
"""Called with how many segments are done, and how many there are."""

BUCKETS = 8
"""Lengths are padded to multiples of an eighth of the longest, so that few programs are compiled."""
CPU_ROWS, ACCELERATOR_ROWS = 4, 64
"""Rows of a batch: a CPU gains nothing from more."""


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
        is the most rows of a batch. Raises `NotaGenError` naming the first text that has no music.
        """
        pieces = []
        for number, text in enumerate(texts, 1):
            try:
                pieces.append(m3_patches.encode(text, self.config.patch_size))
            except NotaGenError as error:
                raise NotaGenError(f"text {number} of {len(texts)}: {error}") from error
        run = partial(_music, self.config, self._on_device["music"], projected=projected)
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
        run = partial(_text, self.config, self._on_device["text"])
        length, width = self.config.text_length, self.config.feature_size
        return _pooled(tokens, length, TEXT_PAD, width, run, batch_size, progress)

    @cached_property
    def _on_device(self) -> dict[str, Any]:
        """The parameters of each tower and its projection, put on the device once."""
        return {
            tower: jax.device_put(
                {name: self.params[name] for name in (tower, f"{tower}_projection") if name in self.params}
            )
            for tower in ("music", "text")
        }

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


@partial(jax.jit, static_argnums=0, static_argnames="projected")
def _music(config: Clamp2Config, params: Any, patches: Any, mask: Any, projected: bool) -> jax.Array:
    model = Clamp2Model(config)
    return jnp.asarray(
        model.apply({"params": params}, patches, mask, projected=projected, method=model.music_features)
    )


@partial(jax.jit, static_argnums=0)
def _text(config: Clamp2Config, params: Any, tokens: Any, mask: Any) -> jax.Array:
    model = Clamp2Model(config)
    return jnp.asarray(model.apply({"params": params}, tokens, mask, method=model.text_features))


def _pooled(
    pieces: Sequence[np.ndarray],
    length: int,
    pad: int,
    width: int,
    run: Callable[[np.ndarray, np.ndarray], jax.Array],
    batch_size: int | None,
    progress: Progress | None,
) -> np.ndarray:
    """Weighted means (n, width) of the features of the segments of `pieces`, arrays (n_i, …).

    `run` maps a padded batch (rows, bucket, …) and its mask to features (rows, width).
    """
    if batch_size is None:
        batch_size = CPU_ROWS if jax.default_backend() == "cpu" else ACCELERATOR_ROWS
    if batch_size < 1:
        raise NotaGenError(f"batch_size must be at least 1, got {batch_size}")
    rows: list[tuple[int, float, np.ndarray]] = []
    for number, piece in enumerate(pieces):
        parts, weights = m3_patches.segments(piece, length)
        rows += [(number, float(weight), part) for part, weight in zip(parts, weights, strict=True)]
    rows.sort(key=lambda row: -len(row[2]))
    sums = np.zeros((len(pieces), width), np.float32)
    totals = np.zeros((len(pieces), 1), np.float32)
    step = -(-length // BUCKETS)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        bucket = min(-(-len(batch[0][2]) // step) * step, length)
        # The last batch shrinks to a power of two, so that a single piece is not computed as many.
        height = min(1 << (len(batch) - 1).bit_length(), batch_size)
        inputs = np.full((height, bucket, *batch[0][2].shape[1:]), pad, batch[0][2].dtype)
        mask = np.zeros((height, bucket), bool)
        for row, (_, _, part) in enumerate(batch):
            inputs[row, : len(part)] = part
            mask[row, : len(part)] = True
        features = np.asarray(run(inputs, mask))
        for row, (number, weight, _) in enumerate(batch):
            sums[number] += weight * features[row]
            totals[number] += weight
        if progress is not None:
            progress(start + len(batch), len(rows))
    return sums / totals if len(pieces) else sums
