"""A safetensors file, written and read one tensor at a time.

The library's own writer takes all tensors at once, which doubles the memory of converting a large
model. The format is a length (8 bytes, little-endian), a JSON header and the tensors' bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from notagen_jax.checkpoints.layout import Reader, Shape
from notagen_jax.errors import NotaGenError

StoredType = Literal["float32", "bfloat16"]

_DTYPES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F64": np.dtype(np.float64),
}
_CODES: dict[StoredType, str] = {"float32": "F32", "bfloat16": "BF16"}
_ALIGNMENT = 64
"""The header is padded so that every mapped tensor starts aligned."""


def write_tensors(stream: BinaryIO, shapes: Mapping[str, Shape], read: Reader, dtype: StoredType) -> None:
    """Write the tensors `read` gives, cast to `dtype`, as a safetensors file with these shapes."""
    code = _CODES[dtype]
    stored = _DTYPES[code]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * stored.itemsize
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    stream.write(len(text).to_bytes(8, "little"))
    stream.write(text)
    for name, shape in shapes.items():
        values = np.ascontiguousarray(read(name), dtype=stored)
        if values.shape != shape:
            raise ValueError(f"{name}: read {values.shape}, expected {shape}")
        stream.write(values.view(np.uint8).data)


class TensorFile:
    """The tensors of a safetensors file, checked on opening and read on demand."""

    def __init__(self, path: Path) -> None:
        """Read the header; raises `NotaGenError` when the file is not a whole safetensors file."""
        try:
            with safe_open(path, framework="np"):
                pass
            with open(path, "rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                header = json.loads(stream.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise NotaGenError(
                f"{path}: not a whole safetensors file ({error}); convert or download the checkpoint again"
            ) from error
        header.pop("__metadata__", None)
        self.path = path
        self._start = 8 + length
        self._entries = header
        unsupported = sorted(name for name, entry in header.items() if entry["dtype"] not in _DTYPES)
        if unsupported:
            kinds = sorted({header[name]["dtype"] for name in unsupported})
            raise NotaGenError(
                f"{path}: tensors of type {', '.join(kinds)} ({', '.join(unsupported)}); "
                "save the checkpoint in float32 or bfloat16"
            )

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor."""
        return {name: tuple(entry["shape"]) for name, entry in self._entries.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor in its stored type, read into memory of its own."""
        dtype, shape, offset = self._place(name)
        return np.fromfile(self.path, dtype, int(np.prod(shape)), offset=offset).reshape(shape)

    def map(self, name: str) -> np.ndarray:
        """One tensor in its stored type, mapped from the file (copy on write)."""
        dtype, shape, offset = self._place(name)
        return np.asarray(np.memmap(self.path, dtype, mode="c", offset=offset, shape=shape))

    def _place(self, name: str) -> tuple[np.dtype, Shape, int]:
        entry = self._entries[name]
        return _DTYPES[entry["dtype"]], tuple(entry["shape"]), self._start + entry["data_offsets"][0]
