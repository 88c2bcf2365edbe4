"""Linear classifiers on features: they learn what is linear, test on other works, and score prompts."""

import numpy as np
import pytest

from eval.label_accuracy import label_accuracy, label_classifiers
from notagen_jax.errors import NotaGenError

pytest.importorskip("sklearn")


def two_kinds(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Features (count, 6) whose first axis tells Baroque from Romantic, as far as the noise allows."""
    rng = np.random.default_rng(seed)
    romantic = rng.random(count) < 0.5
    features = rng.normal(size=(count, 6)) * noise
    features[:, 0] += np.where(romantic, 1.0, -1.0)
    return features, ["Romantic" if kind else "Baroque" for kind in romantic]


def test_labels_are_recovered_and_prompts_scored():
    features, period = two_kinds(200, 0.1)
    fitted, accuracies = label_classifiers(features, {"period": period, "constant": ["one"] * 200})
    assert set(fitted) == {"period"}  # nothing to tell apart in the other
    assert accuracies == {"period": 1.0}
    assert fitted["period"].test_pieces == 40
    assert 0.4 < fitted["period"].majority < 0.7
    new, wanted = two_kinds(50, 0.1, seed=1)
    assert label_accuracy(fitted, new, {"period": wanted, "unknown": wanted}) == {"period": 1.0}
    wrong = ["Baroque" if label == "Romantic" else "Romantic" for label in wanted]
    assert label_accuracy(fitted, new, {"period": wrong}) == {"period": 0.0}
    assert label_accuracy(fitted, new[:4], {"period": [*wanted[:3], "Classical"]}) == {"period": 0.75}


def test_noise_is_not_learned():
    features, _ = two_kinds(300, 1.0)
    shuffled = [str(label) for label in np.random.default_rng(2).permutation(["A", "B"] * 150)]
    _, accuracies = label_classifiers(features, {"period": shuffled})
    assert accuracies["period"] < 0.7


def test_pieces_of_a_work_stay_on_one_side():
    """Features that only name the work teach nothing about other works."""
    rng = np.random.default_rng(3)
    works = [f"work {i // 6}" for i in range(240)]
    labels = ["A" if rng.random() < 0.5 else "B" for _ in range(40)]
    features = np.eye(40)[[i // 6 for i in range(240)]] + 0.01 * rng.normal(size=(240, 40))
    wanted = [labels[i // 6] for i in range(240)]
    _, apart = label_classifiers(features, {"label": wanted}, works=works)
    _, mixed = label_classifiers(features, {"label": wanted})
    assert mixed["label"] == 1.0
    assert apart["label"] < 0.85


def test_rare_labels_and_wrong_lengths():
    features, period = two_kinds(60, 0.1)
    period[:2] = ["Classical", "Classical"]
    fitted, _ = label_classifiers(features, {"period": period})
    assert "Classical" not in fitted["period"].classes
    with pytest.raises(NotaGenError, match="59 labels for 60 features"):
        label_classifiers(features, {"period": period[1:]})
