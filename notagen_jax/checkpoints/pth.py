"""Official PyTorch checkpoints: `torch.save({"model": state_dict, …})`, read and written.

A `.pth` file is a pickle. It is only ever read with PyTorch's weights-only unpickler, which builds
tensors and plain containers and executes nothing.
"""

import pickle
import re
import reprlib
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from notagen_jax.checkpoints.checkpoint import StoredCheckpoint
from notagen_jax.checkpoints.layout import Layout, check_tied
from notagen_jax.checkpoints.names import NOTAGEN
from notagen_jax.checkpoints.tensor_file import StoredType
from notagen_jax.errors import NotaGenError
from notagen_jax.files import atomic_stream

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
"""File name endings that mean a PyTorch checkpoint."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data-parallel training and `torch.compile` put before every name."""
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""How the weights-only unpickler names an object that it refuses."""
_BLOCK = 1 << 20
# What the weights-only unpickler and the zip reader raise on damaged bytes.
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    OverflowError,
    zipfile.BadZipFile,
)


def open_pth(path: Path, layouts: Sequence[Layout] = (NOTAGEN,)) -> StoredCheckpoint:
    """Open an official checkpoint; its tensors are mapped from the file and read on demand.

    Takes what the official code saves, a state dict alone, and names with a data-parallel prefix;
    float16 and bfloat16 tensors read as float32. `layouts` are the families of models that are
    wanted. Raises `NotaGenError` on a missing torch, a file that is not a whole PyTorch checkpoint,
    one that holds more than tensors and plain values, and tensors that are not of such a model.
    """
    content = _load(path, _check_form(path))
    named = _state_dict(content, path)
    layout = next((layout for layout in layouts if layout.holds(named)), layouts[0])
    tensors = {name: tensor for name, tensor in named.items() if not layout.is_ignored(name)}
    _check_dense(tensors, path)
    config = layout.config_from_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()}, path)
    wrong = [name for name, tensor in tensors.items() if not tensor.dtype.is_floating_point]
    if wrong:
        raise NotaGenError(
            f"{path}: tensors that are not floating point ({', '.join(wrong)}); "
            "give the weights before quantization"
        )

    def read(name: str) -> np.ndarray:
        values = tensors[name].detach().float().numpy()
        if not np.isfinite(values).all():
            raise NotaGenError(
                f"{path}: {name} holds values that are not finite; the file is damaged or its training "
                "diverged, take another checkpoint"
            )
        return values

    check_tied(layout.official_tensors(config), read, path, layout.model)
    return StoredCheckpoint(config, read, path, layout=layout)


def write_pth(
    path: Path, stored: StoredCheckpoint, *, dtype: StoredType = "float32", force: bool = False
) -> None:
    """Write `{"model": state_dict}`, which the official modules load with `strict=True`.

    `stored` may give mapped arrays: those of the wanted type are written without a copy. PyTorch's
    writer takes all tensors at once, so arrays of another type are all held as `dtype`: the peak is
    then the size of the written file (twice the source's, from bfloat16 to float32). Raises
    `NotaGenError` on a missing torch, an existing file without `force`, or a folder that cannot be
    written.
    """
    torch = _torch()
    path = path.absolute()
    check_writable(path, force)
    tensors = {name: _as_torch(stored.read(name), dtype) for name in stored.shapes}
    with atomic_stream(path) as stream:
        try:
            torch.save({"model": tensors}, stream)
        except RuntimeError as error:  # what a failed write becomes in PyTorch's writer
            raise OSError(str(error)) from error


def check_writable(path: Path, force: bool) -> None:
    """Check that a `.pth` file may be written to `path`; raises `NotaGenError` if not."""
    if path.is_dir():
        raise NotaGenError(f"{path}: is a folder; choose a file name")
    if path.exists() and not force:
        raise NotaGenError(f"{path}: exists; choose another name, or --force to replace it")


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise NotaGenError(
            "PyTorch checkpoints need torch, which is not installed; run "
            '`pip install "notagen-jax[convert]"` (a CPU build is enough)'
        ) from error
    return torch


def _check_form(path: Path) -> bool:
    """Check from its bytes that a file may be a checkpoint; returns whether it is in the zip form.

    Raises `NotaGenError` saying what the file is instead.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise NotaGenError(f"{path}: cannot read ({error.strerror or error})") from error
    start = head.lstrip().lower()
    if not head:
        raise NotaGenError(f"{path}: the file is empty; download it again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise NotaGenError(
            f"{path}: a web page, not a checkpoint; download the file itself "
            "(on Hugging Face the link with /resolve/, not /blob/)"
        )
    if start.startswith(b"version https://git-lfs"):
        raise NotaGenError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull`")
    if head.startswith(b"PK\x03\x04"):
        try:
            whole = zipfile.is_zipfile(path)
        except zipfile.BadZipFile:  # an end record of sorts, with impossible numbers
            whole = False
        if not whole:
            raise NotaGenError(f"{path}: the file breaks off before its end; download it again")
        return True
    if head[:1] == b"\x80":  # a bare pickle: PyTorch's form before 1.6
        return False
    raise NotaGenError(f"{path}: not a PyTorch checkpoint; give a .pth file or a converted directory")


def _load(path: Path, zipped: bool) -> Any:
    """The content of the file, by the weights-only unpickler; raises `NotaGenError` on damage."""
    torch = _torch()
    try:
        if zipped:
            _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd pickle protocol is told by the error, if it is one
            return torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
    except OSError as error:
        raise NotaGenError(f"{path}: cannot read ({error.strerror or error})") from error
    except _DAMAGE as error:
        foreign = _FOREIGN.search(str(error))
        if foreign:
            raise NotaGenError(
                f"{path}: holds a Python object ({foreign[1]}) that could run code when loaded; "
                'refused. Save the weights alone: torch.save({"model": model.state_dict()}, ...)'
            ) from error
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotaGenError(
            f"{path}: a damaged file or not a PyTorch checkpoint ({first_line[:200]}); download it again"
        ) from error


def _check_sums(path: Path) -> None:
    """Compare each record of the file with its checksum, where one was stored.

    Raises `NotaGenError` on a compressed record: PyTorch writes none, and mapped as a tensor its
    bytes would be read as weights.
    """
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise NotaGenError(
                    f"{path}: its record {reprlib.repr(record.filename)} is compressed, as no PyTorch "
                    "checkpoint is; the file is damaged or was packed again, download it again"
                )
            if record.CRC == 0:  # PyTorch can be told to leave the sums out
                continue
            with archive.open(record) as stream:
                while stream.read(_BLOCK):
                    pass


def _state_dict(content: Any, path: Path) -> "dict[str, torch.Tensor]":
    """The named tensors of a loaded file, without wrappers' prefixes."""
    torch = _torch()
    model = content
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        model = content["model"]
    names = list(model) if isinstance(model, Mapping) else []
    if not names or not all(isinstance(name, str) and torch.is_tensor(model[name]) for name in names):
        held = f"the entries {', '.join(map(repr, names[:5]))}" if names else f"a {type(model).__name__}"
        raise NotaGenError(
            f"{path}: no model weights in it (it holds {held}); expected the official "
            '{"model": state_dict} or a state dict'
        )
    tensors = dict(model)
    while (prefix := next(iter(tensors))[: next(iter(tensors)).find(".") + 1]) in _WRAPPERS:
        if not all(name.startswith(prefix) for name in tensors):
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _check_dense(tensors: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Check that every tensor has its values in the plain way; raises `NotaGenError` if not."""
    torch = _torch()
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        raise NotaGenError(
            f"{path}: tensors without values, saved from the meta device ({', '.join(empty)}); "
            "save the model after its weights are loaded"
        )
    packed = [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_nested]
    if packed:
        raise NotaGenError(
            f"{path}: sparse or nested tensors ({', '.join(packed)}); save dense ones (tensor.to_dense())"
        )


def _as_torch(values: np.ndarray, dtype: StoredType) -> "torch.Tensor":
    """A torch tensor on the array's own memory when it already has the wanted type."""
    torch = _torch()
    if dtype == "bfloat16":
        values = np.ascontiguousarray(values, ml_dtypes.bfloat16)
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    values = np.ascontiguousarray(values, np.float32)
    return torch.from_numpy(values if values.flags.writeable else values.copy())
