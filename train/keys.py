"""Which of the 15 keys a piece is trained in (paper sections 3.2 and 3.3)."""

import numpy as np

from notagen_jax.score import KEYS

PITCH_CLASSES = {
    name: pitch
    for pitch, names in enumerate(["C", "C# Db", "D", "Eb", "E", "F", "F# Gb", "G", "Ab", "A", "Bb", "B Cb"])
    for name in names.split()
}
NEAR_WEIGHTS = np.array([1, 2, 3, 4, 3, 2, 1]) / 16
"""Fine-tuning: chance of a key -3 … +3 semitones from the original (paper section 3.3)."""
ENHARMONIC = {1: (("Db", "C#"), 0.8), 11: (("B", "Cb"), 0.8), 6: (("F#", "Gb"), 0.5)}
"""Pitch classes with two names and the chance of the first."""


def choose_key(original: int, policy: str, rng: np.random.Generator) -> int:
    """Index in `KEYS` of the key to train on, by the policy of `DataConfig.keys`."""
    if policy == "original":
        return original
    if policy == "uniform":
        return int(rng.integers(len(KEYS)))
    pitch = (PITCH_CLASSES[KEYS[original]] + int(rng.choice(7, p=NEAR_WEIGHTS)) - 3) % 12
    if pitch in ENHARMONIC:
        (first, second), chance = ENHARMONIC[pitch]
        return KEYS.index(first if rng.random() < chance else second)
    return KEYS.index(next(name for name, value in PITCH_CLASSES.items() if value == pitch))


def possible_keys(policy: str) -> np.ndarray:
    """Which keys `choose_key` may return: bool (15, 15), [original, key]."""
    if policy == "original":
        return np.eye(len(KEYS), dtype=bool)
    if policy == "uniform":
        return np.ones((len(KEYS), len(KEYS)), bool)
    pitches = np.array([PITCH_CLASSES[key] for key in KEYS])
    apart = (pitches[None] - pitches[:, None]) % 12
    return np.minimum(apart, 12 - apart) <= len(NEAR_WEIGHTS) // 2
