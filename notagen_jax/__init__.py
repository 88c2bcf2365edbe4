"""NotaGen in JAX: compose classical sheet music as ABC notation (arXiv 2502.18008)."""

from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError

__all__ = ["PRESETS", "ModelConfig", "NotaGenError"]
