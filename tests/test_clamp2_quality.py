"""The measures of a judge, on features whose ranks are known."""

import numpy as np
import pytest

from eval.clamp2_quality import in_disorder, retrieval, told_from_disorder
from notagen_jax.clamp2.label_text import label_sentence
from notagen_jax.clamp2.m3_patches import encode
from notagen_jax.labels import Prompt
from tests.clamp2_models import pieces

PROMPTS = [
    Prompt("Baroque", "A", "Choral"),
    Prompt("Classical", "B", "Art Song"),
    Prompt("Romantic", "C", "Art Song"),
]


class Axes:
    """A model that puts the sentence of prompt i on axis i."""

    def text_features(self, texts):
        sentences = [label_sentence(prompt) for prompt in PROMPTS]
        return np.eye(3, dtype=np.float32)[[sentences.index(text) for text in texts]]


def test_retrieval_ranks_the_own_sentence():
    # The first piece finds its sentence, the second comes second, the third last.
    music = np.array([[3, 1, 0], [2, 1, 0], [2, 1, 0.5]], np.float32)
    found = retrieval(Axes(), music, PROMPTS)
    assert (found["pieces"], found["texts"]) == (3, 3)
    assert found["top_1"] == pytest.approx(1 / 3)
    assert found["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["first_has_label"]["period"] == pytest.approx(1 / 3)


def test_disorder_is_told_by_the_own_sentence():
    music = np.array([[3, 0, 4], [0, 3, 4], [0, 4, 3]], np.float32)
    mixed = np.array([[4, 0, 3], [0, 0, 1], [0, 1, 0]], np.float32)
    found = told_from_disorder(Axes(), music, mixed, PROMPTS)
    assert found["own_nearer"] == pytest.approx(2 / 3)
    assert found["piece"] == pytest.approx(0.6)
    assert found["disordered"] == pytest.approx(0.8 / 3)


def test_disorder_is_drawn_by_the_seed():
    texts = pieces()[:2]
    first, again, other = (in_disorder(texts, 64, seed) for seed in (0, 0, 1))
    for text, a, b, c in zip(texts, first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
        assert not np.array_equal(a, encode(text))
