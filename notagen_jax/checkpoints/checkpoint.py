"""What a checkpoint is, in memory and as official tensors that are read one at a time."""

import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notagen_jax.checkpoints.advice import Advice
from notagen_jax.checkpoints.layout import Layout, Reader, Shape, stack
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.labels import Prompt

LABELS_FILE = "labels.json"
_REMEDY = "delete it or write it again"

Labels = tuple[Prompt, ...]


class LabelsError(NotaGenError):
    """A `labels.json` that cannot be used; the weights beside it may be good."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in memory: its configuration and float32 parameters."""

    config: ModelConfig
    params: dict[str, Any]
    """Parameter tree of `notagen_jax.model.NotaGen`, float32 numpy arrays."""
    source: Path
    """Where it was opened."""
    labels: Labels | None = None
    """The prompts that the model was trained on, where the checkpoint tells them."""
    advice: Advice | None = None
    """How it is best drawn from, where the checkpoint tells."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint whose tensors are read one at a time, under their official names."""

    config: Any
    """The configuration, of the layout's kind."""
    read: Reader
    source: Path
    labels: Labels | None = None
    layout: Layout = NOTAGEN
    """The family of models that it belongs to."""
    advice: Advice | None = None

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every official tensor, in the order of the state dict."""
        return {tensor.name: tensor.shape for tensor in self.layout.official_tensors(self.config)}

    def params(self) -> dict[str, Any]:
        """Read all tensors into our parameter tree, float32 numpy arrays."""
        return stack(self.layout.official_tensors(self.config), self.read)

    def load(self) -> Checkpoint:
        """Read all tensors of a NotaGen model into memory."""
        return Checkpoint(self.config, self.params(), self.source, self.labels, self.advice)


def read_labels(folder: Path) -> Labels | None:
    """The prompts in `labels.json` of a checkpoint or run folder, None when there is no such file.

    The file is a JSON list of [period, composer, instrumentation]. Raises `LabelsError` when it
    cannot be read or is anything else.
    """
    path = folder / LABELS_FILE
    if not path.is_file():
        return None
    try:
        text = read_text(path, _REMEDY)
    except NotaGenError as error:
        raise LabelsError(str(error)) from error
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelsError(f"{path}: not a JSON file ({error}); {_REMEDY}") from error
    if not isinstance(rows, list):
        raise LabelsError(f"{path}: expected a list of [period, composer, instrumentation]")
    for number, row in enumerate(rows, start=1):
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(label, str) for label in row)):
            raise LabelsError(
                f"{path}: entry {number} is {reprlib.repr(row)}, expected [period, composer, instrumentation]"
            )
    try:
        return tuple(Prompt(*row) for row in rows)
    except NotaGenError as error:
        raise LabelsError(f"{path}: {error}") from error


def labels_json(labels: Sequence[Prompt]) -> str:
    """Text of a `labels.json` file."""
    rows = [json.dumps([prompt.period, prompt.composer, prompt.instrumentation]) for prompt in labels]
    return "[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]\n"
