"""What every model configuration shares: a JSON file beside the weights, and how it is computed."""

import dataclasses
import json
import reprlib
from typing import Any, ClassVar, Literal, Self

from notagen_jax.errors import NotaGenError

CONFIG_REMEDY = "put the original file back, or convert the checkpoint again"
"""How a message about a broken configuration file ends."""

MOST_UNROLLED = 1024
"""More blocks than any model has; a program of more of them would not compile in any time."""


class FileConfig:
    """What frozen dataclasses of a model's sizes and settings share.

    They declare the fields, those annotated here among them, in the order their files have them.
    The sizes decide the parameters; the rest decides only how they are used, so it may differ between
    training and use of the same checkpoint.
    """

    SIZES: ClassVar[tuple[str, ...]]
    """The fields that decide the parameters; a file must state them all."""
    NAME: ClassVar[str]
    """How a message names the configuration."""

    dropout: float
    attention_dropout: float
    dtype: Literal["float32", "bfloat16"]
    remat: bool
    unroll: int

    def check_settings(self) -> None:
        """Raise `NotaGenError` on a value out of bounds in a field that this class names."""
        self.demand(is_whole(self.unroll, 1), "unroll", "a positive integer")
        self.demand(self.unroll <= MOST_UNROLLED, "unroll", f"at most {MOST_UNROLLED}")
        for name in ("dropout", "attention_dropout"):
            self.demand(is_rate(getattr(self, name)), name, "a number in [0, 1)")
        self.demand(isinstance(self.remat, bool), "remat", "true or false")
        self.demand(self.dtype in ("float32", "bfloat16"), "dtype", "float32 or bfloat16")

    def demand(self, holds: bool, name: str, kind: str) -> None:
        """Raise `NotaGenError` unless it `holds` that the field `name` is of that kind."""
        if not holds:
            raise self.refusal(f"{name} must be {kind}", getattr(self, name))

    def refusal(self, demand: str, value: object) -> NotaGenError:
        """The error of a value; one out of a file may be of any size, so it is shortened."""
        return NotaGenError(f"{self.NAME}: {demand}, got {reprlib.repr(value)}")

    @property
    def sizes(self) -> dict[str, int]:
        """The fields that decide the parameters."""
        return {name: getattr(self, name) for name in self.SIZES}

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`; raises `NotaGenError` when they do not fit together."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to_json(self) -> str:
        """The configuration as a JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read what `to_json` wrote; `source` names the file in errors.

        Raises `NotaGenError` on broken JSON, an unknown field, a missing size or a value of another
        type.
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:  # nested without end counts as broken too
            raise NotaGenError(f"{source}: not a JSON file ({error}); {CONFIG_REMEDY}") from error
        if not isinstance(fields, dict):
            raise NotaGenError(f"{source}: expected a JSON object of model sizes; {CONFIG_REMEDY}")
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown, missing = sorted(set(fields) - known), sorted(set(cls.SIZES) - set(fields))
        if unknown or missing:
            raise NotaGenError(
                f"{source}: not a model configuration (unknown fields {unknown}, missing fields {missing}); "
                f"{CONFIG_REMEDY}"
            )
        try:
            return cls(**fields)
        except NotaGenError as error:
            raise NotaGenError(f"{source}: {error}; correct it, or {CONFIG_REMEDY}") from error


def is_whole(value: object, least: int) -> bool:
    """Whether a value out of a file is a whole number from `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_rate(value: object) -> bool:
    """Whether a value out of a file is a number in [0, 1)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
