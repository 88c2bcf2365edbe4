"""CLaMP 2 features of many pieces, kept in a file and made part by part."""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic

PART = 128
"""Pieces a part: what a killed run loses at most."""
_TENSOR = "features"


class Judge(Protocol):
    """What makes feature vectors of interleaved ABC: a `notagen_jax.clamp2.Clamp2`."""

    def music_features(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, W)."""
        ...


def features_of(
    path: Path,
    open_judge: Callable[[], Judge],
    texts: Sequence[str],
    say: Callable[[str], object],
) -> np.ndarray:
    """The features float32 (n, W) of the texts, from the file `path` or made and written there.

    Parts are kept beside the file until the whole is written. A file (or part) of other texts is made
    again. Raises `NotaGenError` when a file cannot be read.
    """
    if not texts:
        raise NotaGenError(f"{path}: no piece to take features of")
    known = _read(path, texts)
    partial = path.with_name(path.name + ".partial")
    if known is None:
        judge: Judge | None = None
        parts = []
        for start in range(0, len(texts), PART):
            chunk = texts[start : start + PART]
            place = partial / f"{start:08d}.safetensors"
            made = _read(place, chunk)
            if made is None:
                judge = judge or open_judge()
                made = np.asarray(judge.music_features(chunk), np.float32)
                _require_finite(made, start)
                _write(place, made, chunk)
                say(f"features of {start + len(chunk)} of {len(texts)} pieces")
            parts.append(made)
        known = np.concatenate(parts)
        _write(path, known, texts)
    shutil.rmtree(partial, ignore_errors=True)
    return known


def _require_finite(features: np.ndarray, start: int) -> None:
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise NotaGenError(
            f"the judge gives piece {start + int(broken[0]) + 1} features that are not finite; is its "
            "checkpoint damaged?"
        )


def texts_digest(texts: Iterable[str]) -> str:
    """One hash of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _write(path: Path, features: np.ndarray, texts: Sequence[str]) -> None:
    write_atomic(path, save({_TENSOR: features}, metadata={"texts": texts_digest(texts)}))


def _read(path: Path, texts: Sequence[str]) -> np.ndarray | None:
    """The features of these texts, None when the file is not there or holds those of others."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as stored:
            if (stored.metadata() or {}).get("texts") != texts_digest(texts):
                return None
            return stored.get_tensor(_TENSOR)
    except (SafetensorError, OSError) as error:
        raise NotaGenError(
            f"{path}: cannot read the features ({error}); delete it, and the same command makes it again"
        ) from error
