"""MB of ABC a second through the codec, one way and the other.

    python -m eval.codec_speed                      # the pieces in tests/data
    python -m eval.codec_speed a.abc folder/

Files are ABC in reduced form, such as training and sampling read; nothing is run in parallel.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.patches import decode, encode_training

PIECES = Path(__file__).parent.parent / "tests" / "data"
METHOD = (
    "One process, text already in memory, whole pieces: encoding is text to patches with stream headers "
    "added, decoding is patches to text. MB are 10^6 bytes of the ABC text that is read (encode) or "
    "written (decode). All pieces are coded again and again for --seconds, after one pass that "
    "is not timed; each figure is the median over these passes, with the quartiles."
)


def read(paths: tuple[Path, ...]) -> tuple[list[str], list[np.ndarray]]:
    """Texts of reduced-form ABC files, or of those in folders, and their patches (n, 16).

    Raises `NotaGenError` where there are none, or one cannot be read or encoded.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.abc")) if path.is_dir() else [path])]
    if not files:
        raise NotaGenError(f"no .abc file in {', '.join(map(str, paths))}")
    texts, pieces = [], []
    for file in files:
        try:
            texts.append(file.read_text(encoding="ascii"))
            pieces.append(encode_training(texts[-1]))
        except (OSError, UnicodeDecodeError, NotaGenError) as error:
            raise NotaGenError(f"{file}: {error}") from error
    return texts, pieces


def rates(work: Callable[[], int], seconds: float) -> list[float]:
    """MB a second of each call of `work`, which returns bytes, for `seconds` and at least three calls."""
    work()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        size = work()
        found.append(size / 1e6 / (time.perf_counter() - began))
    return found


def codec_speed(paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), seconds: float = 2.0) -> None:
    """Print MB of ABC a second of encoding and decoding.

    Args:
        paths: Reduced-form ABC files, or folders of them; by default the pieces in tests/data.
        seconds: How long each way is timed.
    """
    texts, pieces = read(paths or tuple(sorted(PIECES.glob("reduced_*.abc"))))
    ways: dict[str, Callable[[], int]] = {
        "encode": lambda: sum(len(text) for text in texts if len(encode_training(text))),
        "decode": lambda: sum(len(decode(patches)) for patches in pieces),
    }
    print(f"{len(texts)} pieces, {sum(map(len, texts)) / 1e6:.4f} MB, {sum(map(len, pieces))} patches")
    for name, work in ways.items():
        found = rates(work, seconds)
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"{name}: {middle:.2f} MB/s ({low:.2f} … {high:.2f}, {len(found)} passes)")
    print(METHOD)


if __name__ == "__main__":
    try:
        tyro.cli(codec_speed, prog="python -m eval.codec_speed")
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
