"""The sizes and settings of a NotaGen model."""

import dataclasses
import json
import os
import reprlib
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text

PATCH_SIZE = 16
"""Characters in a patch."""
VOCABULARY = 128
"""ASCII codes; 0, 1 and 2 are pad, bos and eos."""
HEAD_SIZE = 64
"""Features of one attention head, in every official size."""

SIZES = ("hidden_size", "patch_layers", "char_layers", "patch_length")

MOST_UNROLLED = 1024
"""More blocks than any model has; a program of more of them would not compile in any time."""

Configuration = TypeVar("Configuration")

CONFIG_REMEDY = "put the original file back, or convert the checkpoint again"
"""How a message about a broken configuration file ends."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of the two decoders and how they are computed.

    The sizes decide the parameters; the rest decides only how they are used, so it may differ
    between training and sampling of the same checkpoint.
    """

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
        for name in (*SIZES, "unroll"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _refusal(f"{name} must be a positive integer", value)
        chunk = self.char_chunk
        if not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 0:
            raise _refusal("char_chunk must be a whole number from 0", chunk)
        if self.unroll > MOST_UNROLLED:
            raise _refusal(f"unroll must be at most {MOST_UNROLLED}", self.unroll)
        if self.hidden_size % HEAD_SIZE:
            raise _refusal(f"hidden_size must be a multiple of {HEAD_SIZE}", self.hidden_size)
        for name in ("dropout", "attention_dropout"):
            rate = getattr(self, name)
            if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < 1:
                raise _refusal(f"{name} must be a number in [0, 1)", rate)
        if not isinstance(self.remat, bool):
            raise _refusal("remat must be true or false", self.remat)
        if self.dtype not in ("float32", "bfloat16"):
            raise _refusal("dtype must be float32 or bfloat16", self.dtype)
        if self.attention not in ("xla", "cudnn"):
            raise _refusal("attention must be xla or cudnn", self.attention)
        if self.attention == "cudnn" and (self.dtype != "bfloat16" or self.attention_dropout):
            raise NotaGenError(
                "model configuration: cudnn attention needs dtype bfloat16 and attention_dropout 0"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """The fields that decide the parameters."""
        return {name: getattr(self, name) for name in SIZES}

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

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`; raises `NotaGenError` when they do not fit together."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The configuration as a JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read what `to_json` wrote; `source` names the file in errors.

        Raises `NotaGenError` on broken JSON, an unknown field, a missing size or a value of another
        type.
        """
        return parse_config(cls, text, source, SIZES)


def parse_config(kind: type[Configuration], text: str, source: str, sizes: Sequence[str]) -> Configuration:
    """The configuration of type `kind` that a JSON object of its fields states.

    `source` names the file in errors; `sizes` are the fields that must be there. Raises
    `NotaGenError` on broken JSON, an unknown field, a missing size or a value of another type.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:  # nested without end counts as broken too
        raise NotaGenError(f"{source}: not a JSON file ({error}); {CONFIG_REMEDY}") from error
    if not isinstance(fields, dict):
        raise NotaGenError(f"{source}: expected a JSON object of model sizes; {CONFIG_REMEDY}")
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(fields) - known)
    missing = sorted(set(sizes) - set(fields))
    if unknown or missing:
        raise NotaGenError(
            f"{source}: not a model configuration (unknown fields {unknown}, missing fields {missing}); "
            f"{CONFIG_REMEDY}"
        )
    try:
        return kind(**fields)
    except NotaGenError as error:
        raise NotaGenError(f"{source}: {error}; correct it, or {CONFIG_REMEDY}") from error


def read_config(path: str | os.PathLike[str]) -> ModelConfig:
    """The configuration in a `config.json` or `model.json`.

    Raises `NotaGenError` naming the file when it cannot be read or is not a model configuration.
    """
    return ModelConfig.from_json(read_text(path, CONFIG_REMEDY), str(path))


def _refusal(demand: str, value: object) -> NotaGenError:
    """The error of a field; a value out of a file may be of any size, so it is shortened."""
    return NotaGenError(f"model configuration: {demand}, got {reprlib.repr(value)}")


PRESETS: dict[str, ModelConfig] = {
    "mini": ModelConfig(hidden_size=256, patch_layers=8, char_layers=2, patch_length=512),
    "small": ModelConfig(hidden_size=768, patch_layers=12, char_layers=3, patch_length=2048),
    "medium": ModelConfig(hidden_size=1024, patch_layers=16, char_layers=3, patch_length=2048),
    "large": ModelConfig(hidden_size=1280, patch_layers=20, char_layers=6, patch_length=1024),
}
"""The packaged size and the three official ones (paper, table 1)."""
