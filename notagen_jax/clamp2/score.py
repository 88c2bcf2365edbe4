"""The CLaMP 2 score: how close pieces are to the ground truth (paper section 3.4; CLaMP 2 section 4)."""

import numpy as np


def centroid(features: np.ndarray) -> np.ndarray:
    """Mean vector, float32 (D,), of the ground truth's features (n, D), which are not normalised first.

    Raises `ValueError` when there are none.
    """
    if not len(features):
        raise ValueError("no features: the ground truth needs at least one piece")
    return np.asarray(features, np.float64).mean(axis=0).astype(np.float32)


def cosine(features: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Cosines of features (n, D) to one vector (D,) or to vectors (m, D): float64 (n,) or (n, m).

    The score of a set is the mean of its pieces' cosines to the centroid. A vector of zeros has
    cosine 0 to everything.
    """
    left, right = _unit(features), _unit(vectors)
    return left @ right.T if right.ndim == 2 else left @ right


def _unit(vectors: np.ndarray) -> np.ndarray:
    array = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(array, axis=-1, keepdims=True)
    return array / np.where(norms > 0, norms, 1.0)
