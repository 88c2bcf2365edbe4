"""Whole-or-nothing file writing."""

import os
import tempfile
from pathlib import Path

from notagen_jax.errors import NotaGenError


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Text is stored as UTF-8 with `\\n` line ends. Raises `NotaGenError` when the folder cannot be
    written or the disk is full; nothing is left behind then.
    """
    path = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise NotaGenError(f"{path}: cannot write ({reason}); choose a folder that can be written") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
