"""Scores on disk as the interleaved ABC that CLaMP 2 reads."""

import re
from collections.abc import Iterator
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.notation.restore import restore_rests
from notagen_jax.score.piece import read_pieces
from notagen_jax.score.refusal import ScoreError
from notagen_jax.score.source import ABC_SUFFIXES, read_text

_BAR_OF_VOICES = re.compile(r"^\[(?:V:|r:\d)", re.MULTILINE)


def interleaved_texts(path: Path) -> Iterator[tuple[str, str] | NotaGenError]:
    """Yield what becomes of each score in a file: its name and interleaved text, or why it has none.

    ABC that is interleaved, reduced or sampled (lines `[V:1]…` or `[r:…]`) gets its omitted rests back;
    other ABC, MusicXML and the other forms of `notagen_jax.score` are converted. The name is the path,
    with the tune where a file holds several.
    """
    if path.suffix.lower() in ABC_SUFFIXES:
        try:
            text = read_text(path)
        except ScoreError as error:
            yield error.at(str(path))
            return
        if _BAR_OF_VOICES.search(text):
            try:
                yield str(path), restore_rests(text)
            except NotaGenError as error:
                yield NotaGenError(f"{path}: {error}")
            return
    pieces = list(read_pieces(path))
    for piece in pieces:
        if isinstance(piece, ScoreError):
            yield piece
        else:
            tune = piece.name.removeprefix(path.stem).removeprefix(".")
            yield f"{path}:{tune}" if tune else str(path), piece.interleaved
