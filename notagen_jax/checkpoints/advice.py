"""How a checkpoint is best drawn from: `sampling.json` in its folder.

The official settings suit a model trained on 1.6M scores. A small one is surer of its first choices
than of the rest, and may say so: `{"temperature": 1.0, "top_p": 0.8, "bar_attempts": 16}`. A converted
folder has such a file or not, and `notagen convert` keeps it; a `.pth` file, a training run and adapters
have none.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_json

ADVICE_FILE = "sampling.json"
ADVICE_REMEDY = "delete it, and the official settings hold"
_WHOLE = ("top_k", "bar_attempts")
ADVISED = (*_WHOLE, "top_p", "temperature")
"""The fields of `SamplingSettings` that the file may hold."""

Advice = Mapping[str, float]


def read_advice(folder: Path) -> Advice | None:
    """The settings in `sampling.json` of a converted checkpoint, None when there is no such file.

    Raises `NotaGenError` when it cannot be read or holds anything but numbers under `ADVISED` names, a
    whole one for top_k and bar_attempts; whether a number is in bounds shows when it is used.
    """
    path = folder / ADVICE_FILE
    if not path.is_file():
        return None
    values = read_json(path, ADVICE_REMEDY)
    if not isinstance(values, dict) or not set(values) <= set(ADVISED):
        raise NotaGenError(f"{path}: expected an object with any of {', '.join(ADVISED)}; {ADVICE_REMEDY}")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else (int, float)):
            kind = "a whole number" if name in _WHOLE else "a number"
            raise NotaGenError(f"{path}: {name} is {value!r}, expected {kind}; {ADVICE_REMEDY}")
    return values


def advice_json(advice: Advice) -> str:
    """Text of a `sampling.json` file."""
    return json.dumps(dict(advice), indent=2) + "\n"
