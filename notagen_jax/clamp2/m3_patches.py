"""Text of a score to the bar patches that M3, the music tower of CLaMP 2, reads.

A patch is 64 ASCII codes: bos, a bar or a header line, eos, pad; 0 is pad, 1 bos, 2 eos, 3 mask
(CLaMP 2, arXiv 2410.13267, section 3.2, and its official code). Unlike NotaGen's, a bar ends with
its bar line and is one patch, cut where it is longer.
"""

import re

import numpy as np
from unidecode import unidecode

from notagen_jax.errors import NotaGenError

PAD, BOS, EOS, MASK = 0, 1, 2, 3
VOCABULARY = 128
"""ASCII codes."""

_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_HEADER = re.compile(r"[^\W\d_]:|%%")
_BAR_LINES = re.compile(r"(\|:|::|:\||\[\||\|\||\|\]|\|)")
_INSTRUMENT = re.compile(r"^(V:.*?) s?nm=.*$", re.MULTILINE)
_MIDI = "ticks_per_beat"
"""First word of CLaMP 2's text form of MIDI (MTF)."""


def encode(text: str, patch_size: int = 64) -> np.ndarray:
    """Encode a score, uint8 (n, patch_size): begin patch, header lines and bars, end patch.

    `text` is interleaved ABC, or CLaMP 2's text form of MIDI (`ticks_per_beat …` first). It is made
    ASCII; comment lines (`%`, not `%%`) are dropped. Whatever stands after the last bar line of a
    line is not part of a bar and is dropped, as in the official code. Raises `NotaGenError` on text
    without a line to encode.
    """
    lines = [line for line in _LINES.findall(text) if not line.startswith("%") or line.startswith("%%")]
    lines = _LINES.findall(unidecode("".join(lines)))
    if not any(line.strip() for line in lines):
        raise NotaGenError("no music: the text is empty; give interleaved ABC")
    if lines[0].split(" ")[0] == _MIDI:
        pieces = _midi_pieces(lines, patch_size)
    else:
        pieces = [piece for line in lines for piece in _line_pieces(line)]
    patches = np.zeros((len(pieces) + 2, patch_size), np.uint8)
    patches[0] = BOS
    for row, piece in zip(patches[1:-1], pieces, strict=True):
        codes = bytes([BOS]) + piece.encode("ascii") + bytes([EOS])
        row[: min(len(codes), patch_size)] = np.frombuffer(codes[:patch_size], np.uint8)
    patches[-1] = EOS
    patches[-1, 0] = BOS
    return patches


def decode(patches: np.ndarray) -> str:
    """Text of patches (n, patch_size), without special characters; cut bars stay cut."""
    array = np.asarray(patches, np.uint8)
    return array[array > MASK].tobytes().decode("ascii", errors="replace")


def split_bars(line: str) -> list[str]:
    """Cut a music line into bars that end with their bar line; a line's opening bar line joins its first bar.

    Text and bar lines are paired in turn, as in the official code: two bar lines side by side shift
    the pairs of the rest of the line, and what is left without a partner is dropped.
    """
    parts = [part for part in _BAR_LINES.split(line) if part]
    if parts and _BAR_LINES.fullmatch(parts[0]):
        if len(parts) == 1:
            return parts  # a line that is one bar line: a bar of its own
        parts[:2] = [parts[0] + parts[1]]
    return [parts[i] + parts[i + 1] for i in range(0, len(parts) - 1, 2)]


def segments(patches: np.ndarray, length: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Cut a piece into segments of at most `length` patches, and the weight of each.

    The last segment of a longer piece is its last `length` patches, weighted by those that no other
    segment holds; a segment weighs as many patches as it is new (official feature extraction).
    Returns segments (≤ length, …) and float32 weights that sum to the length of the piece.
    """
    count = len(patches)
    starts = range(0, count, length)
    parts = [patches[start : start + length] for start in starts]
    parts[-1] = patches[-length:]
    weights = np.array([min(length, count - start) for start in starts], np.float32)
    return parts, weights


def remove_instruments(text: str) -> str:
    """Drop the instrument names (`nm=`, `snm=` and what follows) of the voices of interleaved ABC.

    Contrastive training hides them from the music tower nine times of ten, so that it listens to
    the notes (official code).
    """
    return _INSTRUMENT.sub(r"\1", text)


def _line_pieces(line: str) -> list[str]:
    if len(line) > 1 and _HEADER.match(line):
        return [line]
    bars = split_bars(line)
    if bars:
        bars[-1] += "\n"
    return bars


def _midi_pieces(lines: list[str], patch_size: int) -> list[str]:
    """Runs of events of one kind, as many as fit a patch, joined by tabs under one event name."""
    pieces: list[str] = []
    current = ""
    for line in lines:
        kind, _, values = line.partition(" ")
        if current.startswith(kind) and len(current) + len(values) <= patch_size - 2:
            current = current[:-1] + "\t" + values
        else:
            if current:
                pieces.append(current)
            current = line
    return [*pieces, current] if current else pieces
