"""Pre-train M3, CLaMP 2's music tower: `python -m train.m3_pretrain judge --data.sources FOLDER…`.

Masked modelling of bars (CLaMP 2, section 3.2): 45 % of a piece's patches are masked, shuffled inside
or left, and a GPT-2 reads their characters back out of the tower's vectors.
"""

import math
from collections.abc import Iterator

import jax
import numpy as np

from notagen_jax.clamp2 import losses
from notagen_jax.clamp2.config import Clamp2Config
from notagen_jax.clamp2.masking import MASK_RATIO, choose, mask_piece
from notagen_jax.errors import NotaGenError
from train import loop
from train.clamp2_config import Clamp2RunConfig
from train.clamp2_start import held_out_pieces, start_m3, training_corpora
from train.command import main
from train.configs.clamp2_experiments import M3
from train.score_pieces import HostBatch, ScorePieces, padded
from train.step import Batch, Loss, LossSums, Params


def reconstruction_loss(model: Clamp2Config) -> Loss:
    """The reconstruction of hidden patches as a loss of the loop, by character."""

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        total, weight = losses.reconstruction_nll(
            model, params, batch["patches"], batch["segments"], batch["chosen"], batch["targets"], key
        )
        return LossSums(total, weight, {})

    return loss


class MaskedBatches:
    """Masked pieces: the `Batches` of pre-training.

    Batches hold patches uint8 (rows, length, S), segments int32 (rows, length), chosen int32 (rows, C)
    and targets uint8 (rows, C, S), as `losses.reconstruction_nll` takes them.
    """

    def __init__(self, pieces: ScorePieces) -> None:
        self._pieces = pieces
        self.fingerprint = pieces.fingerprint
        self.names = pieces.names

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[HostBatch]:
        """The batch of update `step` and all after it: this process's contiguous share of their rows."""
        length = self._pieces.config.length
        while True:
            originals, inputs, places = [], [], []
            for index, rng in self._pieces.share(step, process, processes):
                patches = self._pieces.patches(index, rng)
                masked = mask_piece(patches, rng)
                originals.append(patches)
                inputs.append(masked.inputs)
                places.append(masked.chosen)
            yield masked_batch(originals, inputs, places, length)
            step += 1


def masked_batch(
    originals: list[np.ndarray], inputs: list[np.ndarray], places: list[np.ndarray], length: int
) -> HostBatch:
    """The arrays of some pieces (n_i, S), what the tower sees of them, and the chosen places (c_i,)."""
    most = math.ceil(MASK_RATIO * length)
    chosen = np.zeros((len(originals), most), np.int32)
    targets = np.zeros((len(originals), most, originals[0].shape[1]), np.uint8)
    for row, (piece, picked) in enumerate(zip(originals, places, strict=True)):
        chosen[row, : len(picked)] = picked
        targets[row, : len(picked)] = piece[picked]
    return {**padded(inputs, length), "chosen": chosen, "targets": targets}


def held_out_batches(pieces: ScorePieces, most: int) -> list[HostBatch]:
    """Held-out pieces, nothing hidden (as the official evaluation), in whole batches."""
    rows, length = pieces.config.rows, pieces.config.length
    heads = [pieces.head(index) for index in range(min(len(pieces.pieces), most))]
    picked = [choose(len(head), np.random.default_rng(number)) for number, head in enumerate(heads)]
    return [
        masked_batch(heads[i : i + rows], heads[i : i + rows], picked[i : i + rows], length)
        for i in range(0, len(heads) - rows + 1, rows)
    ]


def pretrain(config: Clamp2RunConfig) -> dict[str, float]:
    """Run masked pre-training; returns the last held-out losses (nats per character) by source.

    Raises `NotaGenError` when no source is given, rows are longer than the tower's segment, or a
    source cannot be read.
    """
    model, params = start_m3(config)
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
        loss=reconstruction_loss(model),
        train=MaskedBatches(pieces),
        held_out={
            name: batches
            for name, held in held_out_pieces(config, model.patch_size).items()
            if (batches := held_out_batches(held, config.evaluate_rows))
        },
    )
    return loop.run(stage, config)


if __name__ == "__main__":
    main(M3, pretrain, "Pre-train M3 on built data sets.")  # type: ignore[arg-type]
