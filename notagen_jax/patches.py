"""Text of a score to patches of 16 characters and back.

A patch is 16 ASCII codes; 0 is pad, 1 bos, 2 eos. Metadata lines are cut into patches one by one,
tune-body lines bar by bar (paper section 2.2 and the official code's stream form).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError

PAD, BOS, EOS = 0, 1, 2

BEGIN_PATCH = np.array([BOS] * (PATCH_SIZE - 1) + [EOS], np.uint8)
"""First patch of every piece."""
END_PATCH = np.array([BOS] + [EOS] * (PATCH_SIZE - 1), np.uint8)
"""Last patch of every whole piece."""

# A run of adjacent bar lines counts as one, so that `:||:` does not shift the pairing of the rest.
_BAR_LINES = re.compile(rb"((?:\|:|::|:\||\[\||\|\||\|\]|\|)+)")
_STREAM_HEADER = re.compile(r"^\[r:[^\]]*\]")
_EOS_BYTE = bytes([EOS])
_SPECIAL = re.compile(rb"[\x00-\x02]")


class Continuation(NamedTuple):
    """A prefix to go on from: whole patches, then the characters of the patch that stays open."""

    patches: np.ndarray
    """uint8 (n, 16), the begin patch first."""
    tail: np.ndarray
    """uint8 (m,), m < 16: characters already fixed in the next patch."""


class Piece(NamedTuple):
    """A whole piece in patches, with what is needed to cut a window from it."""

    metadata: np.ndarray
    """uint8 (m, 16), the begin patch first."""
    body: np.ndarray
    """uint8 (b, 16), the end patch last."""
    line_starts: np.ndarray
    """int64 (lines + 1,): where each tune-body line starts in `body`, and where the end patch stands."""

    @property
    def length(self) -> int:
        """Patches of the whole piece."""
        return len(self.metadata) + len(self.body)

    @property
    def patches(self) -> np.ndarray:
        """uint8 (length, 16): the whole piece."""
        return np.concatenate([self.metadata, self.body])


def split_bars(line: bytes) -> list[bytes]:
    """Cut one tune-body line into bars, each headed by the bar line that precedes it.

    The text before the first bar line stands alone; a last bar without a `V` (the line's closing bar
    line) is joined to the one before.
    """
    parts = _BAR_LINES.split(line)
    bars = [parts[0]] if parts[0] else []
    bars += [parts[i] + parts[i + 1] for i in range(1, len(parts), 2)]
    if len(bars) > 1 and b"V" not in bars[-1]:
        last = bars.pop()
        bars[-1] += last
    return bars


def encode_piece(text: str) -> Piece:
    """Encode a whole piece in reduced form, adding stream headers where it has none.

    Tune-body line i of n gets the prefix `[r:i/(n-1-i)]` (bars done / bars to go), unless the body
    already carries such headers, as a sampled piece does. Raises `NotaGenError` on text that is not
    ASCII or has no tune body.
    """
    lines = [line + b"\n" for line in _ascii(text).split(b"\n") if line]
    first = next((i for i, line in enumerate(lines) if b"[V:" in line), None)
    if first is None:
        raise NotaGenError(
            "no tune body: no line holds a bar such as `[V:1]…`; is this an interleaved score?"
        )
    metadata, body = lines[:first], lines[first:]
    if not body[0].startswith(b"[r:"):
        last = len(body) - 1
        body = [b"[r:%d/%d]%s" % (i, last - i, line) for i, line in enumerate(body)]
    head = _close(metadata)
    per_line = [_close(split_bars(line)) for line in body]
    counts = np.array([len(piece) // PATCH_SIZE for piece in per_line])
    return Piece(
        metadata=np.concatenate([BEGIN_PATCH[None], _as_patches(head)]),
        body=np.concatenate([_as_patches(b"".join(per_line)), END_PATCH[None]]),
        line_starts=np.concatenate([[0], np.cumsum(counts)]),
    )


def window(piece: Piece, length: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a training window of at most `length` patches: the metadata, then a part of the body.

    The body starts at its head, at a random line, or at the first line from which the rest fits the
    window (head / middle / tail, one third each when all three exist, by `rng`). A piece that fits
    comes back whole and draws nothing. Returns uint8 (n, 16), n ≤ length.
    """
    excess = piece.length - length
    if excess <= 0:
        return piece.patches
    # The cut points up to and including the first one that leaves no more than a window.
    starts = piece.line_starts[: np.searchsorted(piece.line_starts, excess) + 1]
    choices = ["head", "tail", "middle"][: min(len(starts), 3)]
    choice = choices[rng.integers(len(choices))]
    if choice == "head":
        start = 0
    elif choice == "tail":
        start = starts[-1]
    else:
        start = starts[rng.integers(1, len(starts) - 1)]
    return np.concatenate([piece.metadata, piece.body[start:]])[:length]


def encode_training(
    text: str, length: int | None = None, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Training form of a piece, uint8 (n, 16): begin patch, metadata, body with headers, end patch.

    With `length`, a longer piece is cut to a window by `rng` (see `window`); `rng` None takes the
    head. Raises `NotaGenError` on text that is not ASCII or has no tune body.
    """
    piece = encode_piece(text)
    if length is None:
        return piece.patches
    if rng is None:
        return piece.patches[:length]
    return window(piece, length, rng)


def encode_continuation(text: str) -> Continuation:
    """Encode a prefix that sampling goes on from; the last piece of the text stays open.

    A prefix without a tune body (a prompt) that ends with a line end has only closed metadata lines,
    so its tail is empty. Raises `NotaGenError` on text that is not ASCII.
    """
    encoded = _ascii(text)
    *whole_lines, unfinished = encoded.split(b"\n")
    lines = [line + b"\n" for line in whole_lines if line]
    if unfinished:
        lines.append(unfinished)
    first = next((i for i, line in enumerate(lines) if line.startswith((b"[V:", b"[r:"))), len(lines))
    pieces = list(lines[:first])
    for line in lines[first:]:
        pieces += split_bars(line)
    is_open = bool(pieces) and (first < len(lines) or not encoded.endswith(b"\n"))
    last = pieces.pop() if is_open else b""
    whole = len(last) - len(last) % PATCH_SIZE
    closed = _close(pieces) + last[:whole]
    return Continuation(
        patches=np.concatenate([BEGIN_PATCH[None], _as_patches(closed)]),
        tail=np.frombuffer(last[whole:], np.uint8).copy(),
    )


def decode(patches: np.ndarray | Iterable[np.ndarray]) -> str:
    """Text of patches (n, 16): each patch up to its first eos, without pad, bos and eos.

    Inverse of `encode_training` (stream headers stay in the text) and, with its tail appended, of
    `encode_continuation`.
    """
    array = np.asarray(patches, np.uint8).reshape(-1, PATCH_SIZE)
    ended = np.cumsum(array == EOS, axis=1) > 0
    kept = array[~ended & (array > EOS)]
    return kept.tobytes().decode("ascii", errors="replace")


def is_end(patch: np.ndarray) -> bool:
    """Whether a sampled patch (16,) ends its piece: it begins bos, eos."""
    return bool(patch[0] == BOS and patch[1] == EOS)


def strip_stream_headers(text: str) -> str:
    """Remove the `[r:i/j]` header of every line."""
    return "\n".join(_STREAM_HEADER.sub("", line) for line in text.split("\n"))


def _ascii(text: str) -> bytes:
    """The text in ASCII; raises `NotaGenError` naming the first character that cannot be encoded."""
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise NotaGenError(
            f"line {line}: character {text[error.start]!r} is not ASCII; run the score through "
            "`notagen prepare`, or unidecode the text"
        ) from error
    special = _SPECIAL.search(encoded)
    if special:
        line = encoded.count(b"\n", 0, special.start()) + 1
        raise NotaGenError(
            f"line {line}: control character {special[0]!r} stands for a patch mark; remove it"
        )
    return encoded


def _close(pieces: list[bytes]) -> bytes:
    """Cut each piece into whole patches: one eos where there is room, then pad."""
    closed = []
    for piece in pieces:
        over = len(piece) % PATCH_SIZE
        if over:
            piece = (piece + _EOS_BYTE).ljust(len(piece) - over + PATCH_SIZE, b"\0")
        closed.append(piece)
    return b"".join(closed)


def _as_patches(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(-1, PATCH_SIZE)
