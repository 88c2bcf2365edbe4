"""Reading text with clear refusals, and whole-or-nothing file writing."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from notagen_jax.errors import NotaGenError


def read_text(path: str | os.PathLike[str], remedy: str) -> str:
    """The text of a UTF-8 file; `remedy` ends the message when it cannot be read.

    Raises `NotaGenError` when the file cannot be opened or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise NotaGenError(f"{path}: cannot read ({error.strerror or error}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise NotaGenError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); {remedy}"
        ) from error


def read_json(path: str | os.PathLike[str], remedy: str) -> Any:
    """What a JSON file holds; `remedy` ends the message when it cannot be read.

    Raises `NotaGenError` as `read_text`, and when the text is no JSON.
    """
    try:
        return json.loads(read_text(path, remedy))
    except (ValueError, RecursionError) as error:
        raise NotaGenError(f"{path}: not a JSON file ({error}); {remedy}") from error


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Text is stored as UTF-8 with `\\n` line ends. Raises `NotaGenError` when the folder cannot be
    written or the disk is full; nothing is left behind then.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with atomic_stream(path) as stream:
        stream.write(content)


@contextlib.contextmanager
def atomic_stream(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary stream whose content becomes the file `path` when the block ends without an error.

    Until then a reader sees the old file, or none. Folders on the way are made. Raises
    `NotaGenError` when the folder cannot be written or the disk is full; whatever ends the block
    early, nothing is left behind.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotaGenError(f"{path}: cannot write ({reason}); choose a folder that can be written") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
