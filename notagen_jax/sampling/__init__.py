"""Sampling pieces from a NotaGen model."""

from notagen_jax.sampling.generate import Sampler, default_batch_size, generate
from notagen_jax.sampling.settings import (
    PieceProgress,
    Progress,
    Sample,
    SamplingInterrupted,
    SamplingSettings,
    settings_for,
)

__all__ = [
    "PieceProgress",
    "Progress",
    "Sample",
    "Sampler",
    "SamplingInterrupted",
    "SamplingSettings",
    "default_batch_size",
    "generate",
    "settings_for",
]
