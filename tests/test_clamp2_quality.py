"""The measures of a judge, on features whose ranks are known."""

import numpy as np
import pytest

from eval.clamp2_quality import in_disorder, retrieval, told_from_disorder
from eval.disorder import disordered
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
    texts = [pieces()[0], "K:C\nV:1\n[V:1]C4|]\n", pieces()[1]]
    first, again, other = (in_disorder(texts, 64, seed) for seed in (0, 0, 1))
    assert list(first) == [0, 2]  # one bar has no other order
    for place, mixed in first.items():
        np.testing.assert_array_equal(mixed, again[place])
        assert not np.array_equal(mixed, other[place])
        assert not np.array_equal(mixed, encode(texts[place]))


def test_disorder_keeps_each_voice_its_bars_and_changes_their_order():
    text = "K:C\nV:1\nV:2\n" + "".join(
        f"[V:1]{'|:' * (n == 0)}C{n}{':|' if n == 9 else '|'}[V:2][DF]{n}|\n" for n in range(10)
    )
    patches = encode(text)
    mixed = disordered(patches, np.random.default_rng(0))
    before, after = ([row.tobytes() for row in rows] for rows in (patches, mixed))
    assert sorted(before) == sorted(after)
    assert [row[:6] for row in before] == [row[:6] for row in after]  # the same voice stands everywhere
    first, second = (
        [place for place, row in enumerate(before) if row[1:6] == b"[V:%d]" % voice] for voice in (1, 2)
    )
    for places in (first, second):
        moved = sum(before[place] != after[place] for place in places)
        assert moved >= len(places) / 2
    # Each voice has an order of its own, and special bar lines stay where they are.
    order = [[before.index(after[place]) for place in places] for places in (first, second)]
    assert [place - first[0] for place in order[0]] != [place - second[0] for place in order[1]]
    assert (before[first[0]], before[first[-1]]) == (after[first[0]], after[first[-1]])
    assert after[:4] == before[:4]
    assert after[-1] == before[-1]


def test_disorder_leaves_a_real_piece_its_signs_and_not_its_bars():
    patches = encode(pieces()[0])
    mixed = disordered(patches, np.random.default_rng(1))
    assert not np.array_equal(mixed, patches)
    assert sorted(row.tobytes() for row in mixed) == sorted(row.tobytes() for row in patches)
    assert not np.array_equal(disordered(patches, np.random.default_rng(2)), mixed)
