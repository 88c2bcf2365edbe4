"""Reading a text file that a user named."""

from pathlib import Path

from notagen_jax.errors import NotaGenError


def read_text(path: Path) -> str:
    """The UTF-8 text of a file; raises `NotaGenError` naming it when it is unreadable, empty or binary."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise NotaGenError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise NotaGenError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8 ABC") from error
    if not text.strip():
        raise NotaGenError(f"{path}: the file is empty; give ABC text")
    if "\0" in text:
        raise NotaGenError(f"{path}: not ABC text (it holds a NUL character)")
    return text.replace("\r\n", "\n")
