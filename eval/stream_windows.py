"""A whole piece as the windows that a model of limited length reads it in.

The windows are those of sampling (paper section 2.2): when one is full, the metadata and the last half of
the tune-body lines so far stay, and the next window goes on behind them. How many lines are half is
settled when the first window is full; where so many no longer fit, fewer stay. Every patch counts in
exactly one window, the earliest that holds it, so that its prediction sees what the model had before it
while it wrote.

Two things differ from sampling. There a window opens again the patch that was closed last; here windows
start with whole patches. And there a line that fills a window ends the piece; here it is cut in the
middle, so that every patch counts.
"""

from typing import NamedTuple

import numpy as np

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import Piece


class Window(NamedTuple):
    """A part of a piece that the model reads at once."""

    patches: np.ndarray
    """uint8 (n, 16): the metadata, then body patches in a row."""
    first: int
    """The first patch that counts; those before it are only read. At least 1, because nothing predicts
    the begin patch."""


def stream_windows(piece: Piece, length: int) -> list[Window]:
    """The windows of at most `length` patches in which a whole piece is read.

    Raises `NotaGenError` when the metadata leave no room for two patches of the body.
    """
    metadata, body, starts = piece.metadata, piece.body, piece.line_starts[:-1]
    room = length - len(metadata)
    if room < 2:
        raise NotaGenError(f"{len(metadata)} patches of metadata leave no room in a window of {length}")
    end = min(room, len(body))
    windows = [Window(np.concatenate([metadata, body[:end]]), 1)]
    half: int | None = None
    while end < len(body):
        begun = int(np.searchsorted(starts, end))
        half = half or max(begun // 2, 1)
        kept = min(half, begun - 1)
        while kept and end - starts[begun - kept] >= room:
            kept //= 2
        start = int(starts[begun - kept]) if kept else end - room // 2
        after = min(start + room, len(body))
        windows.append(Window(np.concatenate([metadata, body[start:after]]), len(metadata) + end - start))
        end = after
    return windows
