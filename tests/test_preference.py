"""Scores, filters and selection, each filter with a planted case."""

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.notation import check
from notagen_jax.preference import (
    Closest,
    alignment_fault,
    centroid,
    clamp2_scores,
    closest_pieces,
    copying,
    cosines,
    nearest_others,
    plagiarism,
    scattered_staves,
    select,
)
from tests.notation_pieces import SCORES, piece


def test_score_is_the_cosine_to_the_mean_vector():
    rng = np.random.default_rng(0)
    truth, samples = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    mean = truth.astype(np.float64).mean(axis=0)
    expected = [row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for row in samples.astype(np.float64)]
    np.testing.assert_allclose(clamp2_scores(samples, centroid(truth)), expected, rtol=1e-12)
    # The mean is of the vectors as they are: a long one pulls more than a short one.
    pulled = centroid(np.array([[10.0, 0.0], [0.0, 1.0]]))
    assert clamp2_scores(np.array([[1.0, 0.0]]), pulled)[0] > 0.99


def test_broken_features_are_refused():
    good = np.ones((2, 3))
    for bad in (np.zeros(3), np.array([1.0, np.nan, 0.0])):
        with pytest.raises(NotaGenError, match="feature vector 2 is zero or not finite"):
            clamp2_scores(np.concatenate([good, bad[None]]), np.ones(3))
    with pytest.raises(NotaGenError, match="no ground-truth piece"):
        centroid(np.zeros((0, 3)))


@pytest.mark.parametrize("name", SCORES)
def test_real_scores_pass_the_text_filters(name):
    assert alignment_fault(check(piece(name))) is None
    assert scattered_staves(piece(name)) is None


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[V:1]F F A A|", "[V:1]F F A|", r"1 of 10 bars differ in length, first bar 2"),
        ("[V:3]C,2 C,2|", "[V:3]C,2 C,2||", r"1 of 10 bars differ in bar lines, first bar 5"),
        ("[V:3]C,2 C,2|", "", r"they have unequal numbers of bars"),
    ],
)
def test_misaligned_voices_are_named(old, new, fault):
    text = piece("reichardt_nachtlied")
    assert old in text
    validity = check(text.replace(old, new, 1))
    assert not validity.aligned
    assert fault in (alignment_fault(validity) or "")
    tolerated = alignment_fault(validity, tolerance=0.1)
    assert tolerated is None or "unequal" in tolerated


def test_text_without_bars_is_not_aligned():
    assert alignment_fault(check("L:1/8\nK:C\nV:1\n")) == "voices not aligned: there are no bars"


def header(*instruments: str) -> str:
    return "".join(f'V:{n} treble nm="{name}" snm="x"\n' for n, name in enumerate(instruments, 1))


def test_an_instrument_that_comes_back_is_named():
    assert scattered_staves(header("Violin", "Violin", "Viola", "Cello")) is None
    fault = scattered_staves(header("Violin", "Viola", "Violin"))
    assert fault == 'staves not grouped: "Violin" comes back after "Viola"'
    # The second staff of an instrument carries no name, which is no other instrument.
    assert scattered_staves('V:1 nm="Flute"\nV:2 treble \nV:3 nm="Flute"\n') is None


def test_a_copy_of_a_ground_truth_piece_is_named():
    truth = np.array([[1.0, 0.0], [0.6, 0.8]])
    near, copy = closest_pieces(np.array([[0.1, 1.0], [0.62, 0.8]]), truth)
    assert (near.index, copy.index) == (1, 1)
    assert plagiarism(near, "b") is None
    assert "cosine 0.99" in (plagiarism(copy, "b") or "")
    assert "to b is above 0.95" in (plagiarism(copy, "b") or "")
    assert plagiarism(Closest(0, 0.95), "a") is None
    assert copying(0.5, "a") is None
    assert copying(0.61, "a") == "plagiarism: 61 % of it stands note by note in a, above 50 %"


def test_best_and_worst_tenth_with_filters():
    scores = [None, *np.linspace(0.0, 1.0, 20)]  # sample 20 is the best, sample 1 the worst
    faults: list[list[str]] = [[] for _ in scores]
    faults[20] = ["voices not aligned"]
    faults[1] = ["voices not aligned"]
    verdicts = select(scores, faults)
    assert {index for index, v in enumerate(verdicts) if v == "chosen"} == {19, 18}
    assert {index for index, v in enumerate(verdicts) if v == "rejected"} == {1, 2}
    assert verdicts[20] == "filtered"
    assert verdicts[0] == "unranked"
    assert set(verdicts[3:18]) == {"between"}


def test_when_every_filter_fails_nothing_is_chosen_and_nothing_is_both():
    verdicts = select(list(range(10)), [["fault"]] * 10, portion=0.5)
    assert verdicts == ["rejected"] * 5 + ["filtered"] * 5
    few = select([0.3, 0.2, 0.1], [[]] * 3)
    assert few == ["between"] * 3
    with pytest.raises(NotaGenError, match="portion"):
        select([0.1], [[]], portion=0.6)


def test_places_left_go_to_the_nearly_aligned_of_the_better_half():
    scores = [float(score) for score in range(20, 0, -1)]  # best first
    faults = [["alignment"]] * 20
    amiss: list[float | None] = [0.5, None, 0.3, 0.1, 0.3, *[0.9] * 5, *[0.0] * 10]
    found = select(scores, faults, 0.2, amiss)
    assert [n for n, verdict in enumerate(found) if verdict == "chosen"] == [0, 2, 3, 4]
    assert found.count("rejected") == 4
    # A whole one goes first wherever it ranks; other faults stay faults.
    faults[12], faults[3] = [], ["alignment", "plagiarism"]
    found = select(scores, faults, 0.1, amiss)
    assert [n for n, verdict in enumerate(found) if verdict == "chosen"] == [2, 12]
    faults[13] = []
    assert select(scores, faults, 0.1, amiss) == select(scores, faults, 0.1)


def test_nearest_others():
    rows = np.random.default_rng(0).normal(size=(1100, 3))
    found = nearest_others(rows)
    table = cosines(rows, rows) - 3 * np.eye(len(rows))
    np.testing.assert_array_equal(found, table.max(axis=1))
    assert nearest_others(rows[:1])[0] == -1.0
    assert cosines(rows, rows).max() == 1.0


def test_equal_scores_keep_their_order():
    assert select([0.5] * 4, [[]] * 4, portion=0.25) == ["chosen", "between", "between", "rejected"]
