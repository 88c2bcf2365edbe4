"""How a checkpoint is best drawn from: `sampling.json` in its folder.

The official settings suit a model trained on 1.6M scores. A small one is surer of its first choices
than of the rest, and may say so: `{"temperature": 1.0, "top_p": 0.8}`.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.sampling.settings import SamplingSettings

SAMPLING_FILE = "sampling.json"
ADVISED = ("top_k", "top_p", "temperature")
"""The settings that the file may hold."""
_REMEDY = "delete it, and the official settings hold"


def settings_for(
    source: Path,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    temperature: float | None = None,
    **limits: Any,
) -> SamplingSettings:
    """Settings to draw from the checkpoint at `source` with: those given, else its own, else the official.

    source: where the checkpoint was opened (`Checkpoint.source`); only a folder can hold advice
    limits: further fields of `SamplingSettings`

    Raises `NotaGenError` on a value out of bounds, or on a `sampling.json` that cannot be used.
    """
    asked: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "temperature": temperature}
    given = {name: value for name, value in asked.items() if value is not None}
    settings = dataclasses.replace(_advised(source / SAMPLING_FILE), **limits)
    return dataclasses.replace(settings, **given)


def _advised(path: Path) -> SamplingSettings:
    """The official settings with what the file says; the file may be missing."""
    if not path.is_file():
        return SamplingSettings()
    try:
        values = json.loads(read_text(path, _REMEDY))
    except (ValueError, RecursionError) as error:
        raise NotaGenError(f"{path}: not a JSON file ({error}); {_REMEDY}") from error
    if not isinstance(values, dict) or not set(values) <= set(ADVISED):
        raise NotaGenError(f"{path}: expected an object with any of {', '.join(ADVISED)}; {_REMEDY}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int if name == "top_k" else (int, float)):
            raise NotaGenError(f"{path}: {name} is {value!r}, expected a number; {_REMEDY}")
    try:
        return SamplingSettings(**values)
    except NotaGenError as error:
        raise NotaGenError(f"{path}: {error}; {_REMEDY}") from error
