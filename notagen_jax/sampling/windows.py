"""Stream windows: going on with a piece that is longer than the patch length (paper section 2.2)."""

from notagen_jax.config import ModelConfig
from notagen_jax.patches import Continuation, encode_continuation

BODY_LINE = ("[V:", "[r:")
"""How a line of the tune body begins in a generated piece."""


def body_start(lines: list[str]) -> int | None:
    """Index of the first tune-body line of a generated prefix, or None while there is none."""
    return next((i for i, line in enumerate(lines) if line.startswith(BODY_LINE)), None)


def body_has_begun(text: str) -> bool:
    """Whether the `[r:` of the first tune-body line is already followed by what it goes on."""
    lines = text.split("\n")
    first = body_start(lines)
    return first is not None and lines[first] != "[r:"


def next_window(config: ModelConfig, text: str, kept_lines: int | None) -> tuple[Continuation, int] | None:
    """The metadata and the last lines of the tune body, encoded to go on from.

    kept_lines: how many body lines stay; None (the first overflow) keeps the last half of them, and
                the number that comes back holds for the rest of the piece. If so many no longer fit
                the window, fewer stay.
    Returns None when nothing can be dropped: no tune body yet, or its last line alone fills a window.
    """
    lines = [line for line in text.split("\n") if line]
    first = body_start(lines)
    if first is None:
        return None
    metadata, body = lines[:first], lines[first:]
    if kept_lines is None:
        kept_lines = max(len(body) // 2, 1)
    end = "\n" if text.endswith("\n") else ""
    keep = min(kept_lines, len(body) - 1)
    while keep:
        window = encode_continuation("\n".join(metadata + body[-keep:]) + end)
        if len(window.patches) < config.patch_length:
            return window, kept_lines
        keep //= 2
    return None
