"""Arithmetic of the model, counted for each decoder, and what devices can do in a second.

A multiply and an add are two operations. Counted are the matrix products, attention and logits
included; norms, activations and table look-ups are left out (below 1 %). Attention counts the keys
that causality allows, not the whole square. The character decoder is three quarters and more of the
whole, so the usual 6 · parameters · tokens does not hold here.
"""

from typing import NamedTuple

import numpy as np

from notagen_jax.config import PATCH_SIZE, VOCABULARY, ModelConfig

TRAINING = 3.0
"""Operations of a training step for each of a forward pass: the backward pass costs two of them."""

PEAKS: dict[str, float] = {
    "V100": 125e12,
    "A100": 312e12,
    "A10": 125e12,
    "A10G": 70e12,
    "L4": 121e12,
    "L40": 181e12,
    "L40S": 362e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "B200": 2250e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153e12,
}
"""Dense bfloat16 (V100: float16) operations a second of one JAX device, from the makers' data sheets."""


class DecoderFlops(NamedTuple):
    """Operations of each decoder."""

    patch: float
    char: float

    @property
    def total(self) -> float:
        """Both decoders together."""
        return self.patch + self.char

    def times(self, factor: float) -> "DecoderFlops":
        """Both, `factor` times."""
        return DecoderFlops(self.patch * factor, self.char * factor)


def forward_flops(config: ModelConfig, context: float) -> DecoderFlops:
    """Forward operations for one patch that attends to `context` patches, itself included.

    The character decoder computes the 16 positions that predict a character.
    """
    width = config.hidden_size
    block = 24.0 * width**2
    patch = config.patch_layers * (block + 4.0 * width * context)
    attended = PATCH_SIZE * (PATCH_SIZE + 1) / 2
    char = config.char_layers * (PATCH_SIZE * block + 4.0 * width * attended)
    logits = 2.0 * PATCH_SIZE * width * VOCABULARY
    return DecoderFlops(patch, char + logits)


def row_flops(config: ModelConfig, segments: np.ndarray) -> DecoderFlops:
    """Forward operations for packed rows: `segments` int (rows, P), 1.. inside pieces, 0 padding.

    Padding counts nothing, and a patch attends to its own piece up to itself. The first patch of a
    piece, which nothing predicts, has no characters to decode.
    """
    patches = decoded = 0
    attended = 0.0
    for row in np.asarray(segments):
        lengths = np.bincount(row)[1:].astype(np.float64)
        patches += int(lengths.sum())
        decoded += int(np.maximum(lengths - 1, 0).sum())
        attended += float((lengths * (lengths + 1) / 2).sum())
    per_patch = forward_flops(config, attended / max(patches, 1))
    return DecoderFlops(per_patch.patch * patches, per_patch.char * decoded)


def training_flops(config: ModelConfig, segments: np.ndarray) -> DecoderFlops:
    """Operations of a training step on packed rows: three times the forward pass.

    What rematerialisation computes a second time is not counted, so that a share of the peak (MFU)
    compares settings fairly.
    """
    return row_flops(config, segments).times(TRAINING)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 operations a second of a device by `jax.Device.device_kind`; None when unknown.

    The longest name in `PEAKS` that the kind contains counts.
    """
    names = [name for name in PEAKS if name.lower() in device_kind.lower()]
    return PEAKS[max(names, key=len)] if names else None
