"""Train CLaMP 2: `python -m train.clamp2 judge --init M3-RUN --tokenizer FOLDER --data.sources FOLDER…`.

Contrastive training of music and text (CLaMP 2, section 3.3): symmetric cross entropy over the pairs
of the whole batch, logit scale 1, with text dropout. The texts are sentences about the labels that
the data sets carry (`notagen_jax.clamp2.label_text`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from notagen_jax.clamp2 import losses
from notagen_jax.clamp2.config import TEXT_PAD, Clamp2Config
from notagen_jax.clamp2.label_text import label_sentence, sample_text
from notagen_jax.clamp2.model import Clamp2Model
from notagen_jax.clamp2.tokenizer import Tokenizer
from notagen_jax.errors import NotaGenError
from train import loop
from train.clamp2_config import Clamp2RunConfig
from train.clamp2_start import held_out_pieces, start_clamp2, training_corpora
from train.command import main
from train.configs.clamp2_experiments import CLAMP2
from train.score_pieces import HostBatch, ScorePieces, cut, padded
from train.step import Batch, Loss, LossSums, Params, global_rows


def contrastive_loss(model: Clamp2Config) -> Loss:
    """Music against text over the pairs of all devices, as a loss of the loop, by pair."""

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        towers = Clamp2Model(model)

        def apply(method: Callable[..., Any], inputs: jax.Array, mask: jax.Array, part: int) -> jax.Array:
            rngs = None if key is None else {"dropout": jax.random.fold_in(key, part)}
            features = towers.apply({"params": params}, inputs, mask, key is None, rngs=rngs, method=method)
            return jax.numpy.asarray(features)

        music = apply(towers.music_features, batch["patches"], batch["segments"] > 0, 0)
        text = apply(towers.text_features, batch["tokens"], batch["tokens"] != TEXT_PAD, 1)
        total, nearest = losses.contrastive_sums(music, text, global_rows(music), global_rows(text))
        return LossSums(total, jax.numpy.float32(len(music)), nearest)

    return loss


class PairBatches:
    """Pieces and sentences about them: the `Batches` of contrastive training.

    Batches hold patches uint8 (rows, length, S), segments int32 (rows, length) and tokens int32
    (rows, text_length), pad behind a text.
    """

    def __init__(self, pieces: ScorePieces, tokenizer: Tokenizer, text_length: int) -> None:
        self._pieces = pieces
        self._tokenizer = tokenizer
        self._text_length = text_length
        self.fingerprint = pieces.fingerprint
        self.names = pieces.names

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[HostBatch]:
        """The batch of update `step` and all after it: this process's contiguous share of their rows."""
        while True:
            patches, texts = [], []
            for index, rng in self._pieces.share(step, process, processes):
                patches.append(self._pieces.patches(index, rng))
                tokens = np.array(self._tokenizer.encode(sample_text(self._pieces.prompt(index), rng)))
                texts.append(cut(tokens, self._text_length, rng))
            yield pair_batch(patches, texts, self._pieces.config.length, self._text_length)
            step += 1


def pair_batch(
    patches: list[np.ndarray], texts: list[np.ndarray], length: int, text_length: int
) -> HostBatch:
    """The arrays of some pieces (n_i, S) and their texts, token ids (t_i,)."""
    tokens = np.full((len(texts), text_length), TEXT_PAD, np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text[:text_length]
    return {**padded(patches, length), "tokens": tokens}


def held_out_batches(
    pieces: ScorePieces, tokenizer: Tokenizer, text_length: int, most: int
) -> list[HostBatch]:
    """Held-out pieces with the sentence of their labels, in whole batches."""
    rows, count = pieces.config.rows, min(len(pieces.pieces), most)
    heads = [pieces.head(index) for index in range(count)]
    texts = [np.array(tokenizer.encode(label_sentence(pieces.prompt(index)))) for index in range(count)]
    return [
        pair_batch(heads[i : i + rows], texts[i : i + rows], pieces.config.length, text_length)
        for i in range(0, count - rows + 1, rows)
    ]


def train(config: Clamp2RunConfig) -> dict[str, float]:
    """Run contrastive training; returns the last held-out losses (nats per pair) by source.

    Raises `NotaGenError` when no source or tokenizer is given, batches are accumulated (the loss
    compares all pairs of a batch with each other), or something cannot be read.
    """
    if config.accumulate != 1:
        raise NotaGenError("accumulate must be 1: a contrastive loss needs its whole batch at once")
    model, params, tokenizer = start_clamp2(config)
    if config.data.length > model.patch_length:
        raise NotaGenError(
            f"data.length ({config.data.length}) is longer than the music tower's segment "
            f"({model.patch_length} patches)"
        )
    pieces = ScorePieces(training_corpora(config), config.data, model.patch_size, config.seed)
    stage = loop.Stage(
        config=model,
        params=params,
        frozen={},
        loss=contrastive_loss(model),
        train=PairBatches(pieces, tokenizer, model.text_length),
        held_out={
            name: batches
            for name, held in held_out_pieces(config, model.patch_size).items()
            if (batches := held_out_batches(held, tokenizer, model.text_length, config.evaluate_rows))
        },
    )
    return loop.run(stage, config)


if __name__ == "__main__":
    main(CLAMP2, train, "Train CLaMP 2 on built data sets with labels.")  # type: ignore[arg-type]
