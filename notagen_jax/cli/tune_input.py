"""The ABC files that subcommands are given."""

from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text


def read_tune(path: Path) -> str:
    """The text of an ABC file; raises `NotaGenError` naming it when it is unreadable, empty or binary."""
    text = read_text(path, "give a file of ABC text in UTF-8")
    if not text.strip():
        raise NotaGenError(f"{path}: the file is empty; give ABC text")
    if "\0" in text:
        raise NotaGenError(f"{path}: not ABC text (it holds a NUL character)")
    return text
