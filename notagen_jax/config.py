"""The sizes and settings of a NotaGen model."""

import dataclasses
import os
from typing import ClassVar, Literal

from notagen_jax.config_file import CONFIG_REMEDY, FileConfig, is_whole
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text

PATCH_SIZE = 16
"""Characters in a patch."""
VOCABULARY = 128
"""ASCII codes; 0, 1 and 2 are pad, bos and eos."""
HEAD_SIZE = 64
"""Features of one attention head, in every official size."""

SIZES = ("hidden_size", "patch_layers", "char_layers", "patch_length")


@dataclasses.dataclass(frozen=True)
class ModelConfig(FileConfig):
    """Sizes of the two decoders and how they are computed."""

    SIZES: ClassVar[tuple[str, ...]] = SIZES
    NAME: ClassVar[str] = "model configuration"

    hidden_size: int
    """Width H of both decoders, a multiple of 64."""
    patch_layers: int
    """Blocks of the patch-level decoder."""
    char_layers: int
    """Blocks of the character-level decoder."""
    patch_length: int
    """Most patches in a window (learned positions of the patch-level decoder)."""
    dropout: float = 0.1
    """Rate on embeddings and residuals, in training only."""
    attention_dropout: float = 0.1
    """Rate on attention weights, in training only; flash attention needs 0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the arithmetic; parameters are always float32."""
    attention: Literal["xla", "cudnn"] = "xla"
    """Patch-level attention: plain XLA, or cuDNN's flash attention (GPU, bfloat16 only)."""
    remat: bool = False
    """Recompute each block's activations in the backward pass, to save memory."""
    char_chunk: int = 0
    """Patches of each row that the character decoder takes at a time: in the loss only as far as they are
    filled, and in little memory; 0 takes all of them at once, pads too."""
    unroll: int = 1
    """Blocks that one step of the scan over layers holds: more trains faster on CPU, compiles longer."""

    def __post_init__(self) -> None:
        for name in SIZES:
            self.demand(is_whole(getattr(self, name), 1), name, "a positive integer")
        self.demand(is_whole(self.char_chunk, 0), "char_chunk", "a whole number from 0")
        self.demand(self.hidden_size % HEAD_SIZE == 0, "hidden_size", f"a multiple of {HEAD_SIZE}")
        self.check_settings()
        self.demand(self.attention in ("xla", "cudnn"), "attention", "xla or cudnn")
        if self.attention == "cudnn" and (self.dtype != "bfloat16" or self.attention_dropout):
            raise NotaGenError(f"{self.NAME}: cudnn attention needs dtype bfloat16 and attention_dropout 0")

    @property
    def heads(self) -> int:
        """Attention heads of every block."""
        return self.hidden_size // HEAD_SIZE

    @property
    def parameters(self) -> int:
        """Number of parameters, the tied output counted once."""
        width = self.hidden_size
        block = 12 * width**2 + 13 * width
        norms = 4 * width
        embeddings = (PATCH_SIZE * VOCABULARY + 1 + self.patch_length + VOCABULARY + PATCH_SIZE + 1) * width
        return (self.patch_layers + self.char_layers) * block + norms + embeddings


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """The configuration in a `config.json` or `model.json`.

    Raises `NotaGenError` naming the file when it cannot be read or is not a model configuration.
    """
    return ModelConfig.from_json(read_text(path, CONFIG_REMEDY), str(path))


PRESETS: dict[str, ModelConfig] = {
    "mini": ModelConfig(hidden_size=256, patch_layers=8, char_layers=2, patch_length=512),
    "small": ModelConfig(hidden_size=768, patch_layers=12, char_layers=3, patch_length=2048),
    "medium": ModelConfig(hidden_size=1024, patch_layers=16, char_layers=3, patch_length=2048),
    "large": ModelConfig(hidden_size=1280, patch_layers=20, char_layers=6, patch_length=1024),
}
"""The packaged size and the three official ones (paper, table 1)."""
