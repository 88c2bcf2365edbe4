"""Label accuracy: does a linear classifier on M3 features recover a piece's labels?

Definition (paper section 4.2): linear classifiers are fitted on the features of ground-truth pieces,
and the label accuracy of generated pieces is the share that they give the label of the prompt. The
classifiers' own accuracy on a test split of the ground truth says how far that can be trusted. The
paper does not publish its classifiers; these are logistic regressions on standardised features.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from notagen_jax.errors import NotaGenError

TEST_SHARE = 0.2
"""Share of the pieces that a classifier is tested on."""
FEWEST = 5
"""Pieces that a label needs to be learned; rarer ones are left out of fitting and testing."""


@dataclasses.dataclass(frozen=True)
class FittedClassifier:
    """A linear classifier of one label, and how well it does on pieces that it was not fitted on."""

    label: str
    """What it tells: period, instrumentation or composer."""
    model: Any
    """A scikit-learn pipeline: standardisation, logistic regression."""
    classes: tuple[str, ...]
    """The labels that it knows."""
    test_accuracy: float
    """Share of the test pieces whose label it gives."""
    majority: float
    """Share of the test pieces that have the commonest label: what guessing reaches."""
    test_pieces: int
    """Pieces of the test split."""

    def predict(self, features: np.ndarray) -> list[str]:
        """Labels of features (n, D)."""
        return [str(label) for label in self.model.predict(np.asarray(features, np.float64))]


def label_classifiers(
    features: np.ndarray,
    labels: Mapping[str, Sequence[str]],
    seed: int = 0,
    works: Sequence[str] | None = None,
) -> tuple[dict[str, FittedClassifier], dict[str, float]]:
    """Fit one classifier for each kind of label on features (n, D); labels map its name to n labels.

    Features are best those of the music tower: `Clamp2.music_features(texts, projected=False)`. A
    fifth of the pieces, drawn by `seed`, is the test split; pieces of one of the `works` (n keys)
    stay on one side. Returns the classifiers and their accuracies on the test split, both by the name
    of the label; a label with fewer than two values of at least five pieces has neither. Raises
    `NotaGenError` when scikit-learn is missing or the lengths differ.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupShuffleSplit
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise NotaGenError(
            'label classifiers need scikit-learn; run `pip install "notagen-jax[eval]"`'
        ) from error
    features = np.asarray(features, np.float64)
    groups = np.array(list(works) if works is not None else [str(i) for i in range(len(features))])
    fitted: dict[str, FittedClassifier] = {}
    for name, values in labels.items():
        if len(values) != len(features) or len(groups) != len(features):
            raise NotaGenError(f"{name}: {len(values)} labels for {len(features)} features; give one each")
        wanted = np.array([str(value) for value in values])
        known, counts = np.unique(wanted, return_counts=True)
        kept = np.flatnonzero(np.isin(wanted, known[counts >= FEWEST]))
        if len(set(wanted[kept])) < 2 or len(set(groups[kept])) < 2:
            continue
        split = GroupShuffleSplit(n_splits=1, test_size=TEST_SHARE, random_state=seed)
        fit, test = next(split.split(features[kept], wanted[kept], groups[kept]))
        fit, test = kept[fit], kept[test]
        if len(set(wanted[fit])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=seed))
        model.fit(features[fit], wanted[fit])
        right = model.predict(features[test]) == wanted[test]
        commonest = max(float(np.mean(wanted[test] == value)) for value in set(wanted[test]))
        fitted[name] = FittedClassifier(
            name, model, tuple(map(str, model.classes_)), float(right.mean()), commonest, len(test)
        )
    return fitted, {name: classifier.test_accuracy for name, classifier in fitted.items()}


def label_accuracy(
    fitted: Mapping[str, FittedClassifier], features: np.ndarray, wanted_labels: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Share of features (n, D) that each classifier gives the wanted label, by the name of the label.

    `wanted_labels` maps names to n labels: those of the prompts that the pieces were sampled for. A
    label that a classifier does not know counts as missed. Names without a classifier are left out.
    """
    return {
        name: float(np.mean([a == b for a, b in zip(fitted[name].predict(features), wanted, strict=True)]))
        for name, wanted in wanted_labels.items()
        if name in fitted and len(wanted)
    }
