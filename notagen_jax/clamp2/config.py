"""The sizes and settings of a CLaMP 2 model."""

import dataclasses
from typing import ClassVar, Literal

from notagen_jax.clamp2.m3_patches import VOCABULARY
from notagen_jax.config import HEAD_SIZE, ModelConfig
from notagen_jax.config_file import FileConfig, is_rate, is_whole

MUSIC_TOKEN_TYPES = 2
"""Token types of the music tower (`BertConfig`); all patches are of type 0."""
TEXT_TOKEN_TYPES = 1
"""Token types of the text tower (XLM-RoBERTa)."""
TEXT_PAD = 1
"""Token that pads texts, and the position before the first one (XLM-RoBERTa)."""

MUSIC_SIZES = ("hidden_size", "music_layers", "intermediate_size", "patch_size", "patch_length")
DECODER_SIZES = ("decoder_layers",)
PROJECTION_SIZES = ("feature_size",)
TEXT_SIZES = (
    "text_vocabulary",
    "text_hidden_size",
    "text_layers",
    "text_intermediate_size",
    "text_positions",
)
SIZES = (*MUSIC_SIZES, *DECODER_SIZES, *PROJECTION_SIZES, *TEXT_SIZES)
"""The fields that decide the parameters; all of them follow from a checkpoint's shapes."""


@dataclasses.dataclass(frozen=True)
class Clamp2Config(FileConfig):
    """Sizes of the towers and how they are computed; a part that a model lacks has size 0.

    CLaMP 2 has both towers and their projections; M3 (masked pre-training) the music tower and the
    character decoder.
    """

    SIZES: ClassVar[tuple[str, ...]] = SIZES
    NAME: ClassVar[str] = "CLaMP 2 configuration"

    hidden_size: int
    """Width of the music tower and of M3's decoder, a multiple of 64."""
    music_layers: int
    """Blocks of the music tower."""
    intermediate_size: int
    """Width of the feed-forward layers of the music tower."""
    patch_size: int = 64
    """Characters of a patch."""
    patch_length: int = 512
    """Most patches of a segment (learned positions of the music tower)."""
    decoder_layers: int = 0
    """Blocks of M3's character decoder; 0 in CLaMP 2."""
    feature_size: int = 0
    """Width of the projected features; 0 in M3, which has no projections."""
    text_vocabulary: int = 0
    """Tokens of the text tower; 0 in M3, which has none."""
    text_hidden_size: int = 0
    """Width of the text tower."""
    text_layers: int = 0
    """Blocks of the text tower."""
    text_intermediate_size: int = 0
    """Width of the feed-forward layers of the text tower."""
    text_positions: int = 0
    """Learned positions of the text tower; the first two are never used (XLM-RoBERTa)."""
    text_heads: int = 0
    """Attention heads of the text tower; 0: unknown, so that it cannot run (shapes do not tell them)."""
    text_length: int = 128
    """Most tokens of a text segment."""
    text_norm_epsilon: float = 1e-5
    """Layer norms of the text tower; XLM-RoBERTa base has 1e-5."""
    dropout: float = 0.1
    """Rate on embeddings and residuals, in training only."""
    attention_dropout: float = 0.1
    """Rate on attention weights, in training only."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the arithmetic; parameters are always float32."""
    remat: bool = False
    """Recompute each block's activations in the backward pass, to save memory."""
    unroll: int = 1
    """Blocks that one step of the scan over layers holds: more trains faster on CPU, compiles longer."""

    def __post_init__(self) -> None:
        for name in (*MUSIC_SIZES, "text_length"):
            self.demand(is_whole(getattr(self, name), 1), name, "a positive integer")
        for name in (*DECODER_SIZES, *PROJECTION_SIZES, *TEXT_SIZES, "text_heads"):
            self.demand(is_whole(getattr(self, name), 0), name, "a non-negative integer")
        self.demand(self.hidden_size % HEAD_SIZE == 0, "hidden_size", f"a multiple of {HEAD_SIZE}")
        self.demand(self.patch_size >= 4, "patch_size", "at least 4")
        self.demand(is_rate(self.text_norm_epsilon), "text_norm_epsilon", "a number in [0, 1)")
        self.check_settings()
        text = {name: getattr(self, name) for name in (*PROJECTION_SIZES, *TEXT_SIZES)}
        if self.decoder_layers and any(text.values()):
            raise self.refusal("M3 (decoder_layers above 0) has neither projections nor a text tower", text)
        if not self.decoder_layers and not all(text.values()):
            raise self.refusal("CLaMP 2 (decoder_layers 0) needs feature_size and all text sizes", text)
        if self.has_text and self.text_heads and self.text_hidden_size % self.text_heads:
            raise self.refusal("text_hidden_size must be a multiple of text_heads", text)
        if self.has_text and self.text_length >= self.text_positions - TEXT_PAD:
            most = f"at most text_positions - {TEXT_PAD + 1}"
            raise self.refusal(f"text_length must be {most}", self.text_length)

    @property
    def heads(self) -> int:
        """Attention heads of the music tower and of M3's decoder."""
        return self.hidden_size // HEAD_SIZE

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower."""
        return self.text_vocabulary > 0

    @property
    def width(self) -> int:
        """Width of a music feature: of the projection, or of the tower where there is none."""
        return self.feature_size or self.hidden_size

    @property
    def decoder(self) -> ModelConfig:
        """M3's character decoder as the GPT-2 stack of `notagen_jax.model`."""
        return ModelConfig(
            hidden_size=self.hidden_size,
            patch_layers=1,
            char_layers=self.decoder_layers,
            patch_length=1,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            dtype=self.dtype,
            remat=self.remat,
            unroll=self.unroll,
        )

    @property
    def parameters(self) -> int:
        """Number of parameters in use (no poolers, no unused embeddings; tied weights counted once)."""
        width, text = self.hidden_size, self.text_hidden_size
        embedding = self.patch_size * VOCABULARY + 1 + self.patch_length + MUSIC_TOKEN_TYPES + 2
        total = embedding * width + self.music_layers * _layer(width, self.intermediate_size)
        if self.feature_size:
            total += (width + 1) * self.feature_size
        if self.decoder_layers:
            total += self.decoder_layers * (12 * width**2 + 13 * width)
            total += (VOCABULARY + self.patch_size + 2) * width
        if self.has_text:
            total += (self.text_vocabulary + self.text_positions + TEXT_TOKEN_TYPES + 2) * text
            total += self.text_layers * _layer(text, self.text_intermediate_size)
            total += (text + 1) * self.feature_size
        return total


def _layer(width: int, intermediate: int) -> int:
    """Parameters of one BERT layer."""
    return 4 * (width + 1) * width + 2 * width * intermediate + intermediate + width + 4 * width


OFFICIAL = Clamp2Config(
    hidden_size=768,
    music_layers=12,
    intermediate_size=3072,
    feature_size=768,
    text_vocabulary=250002,
    text_hidden_size=768,
    text_layers=12,
    text_intermediate_size=3072,
    text_positions=514,
    text_heads=12,
)
"""The published CLaMP 2 (arXiv 2410.13267): M3 and XLM-RoBERTa base."""

OFFICIAL_M3 = Clamp2Config(hidden_size=768, music_layers=12, intermediate_size=3072, decoder_layers=3)
"""The published M3: the music tower and its decoder."""
