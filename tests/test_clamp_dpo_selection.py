"""Ground truth, and samples with planted faults on their way to chosen and rejected."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.notation import check
from tests.notation_pieces import DATA, SCORES, as_generated, piece
from train.clamp_dpo.evaluation import by_style, evaluate, read_evaluated, summarise, write_evaluated
from train.clamp_dpo.features import PART, features_of
from train.clamp_dpo.ground_truth import Style, TruePiece, choose_styles, read_styles
from train.clamp_dpo.samples import Drawn, piece_seed, requests
from train.clamp_dpo.selection import (
    Filters,
    GroundTruth,
    counts,
    hear,
    judge_style,
    preferences,
    read_candidates,
    write_candidates,
)

LIED = Prompt("Romantic", "Hensel, Fanny", "Art Song")
CHORALE = Prompt("Baroque", "Bach, Johann Sebastian", "Choral")
SONG = as_generated(piece("reichardt_nachtlied"))


def folder_of(tmp_path, **pieces: int):
    """A folder of interleaved ABC: so many copies of a song for every sub-folder."""
    for name, count in pieces.items():
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(DATA / f"notation_{SCORES[number % 3]}.abc", tmp_path / name / f"{number}.abc")
    return str(tmp_path)


def test_a_folder_of_abc_gives_the_pieces_of_every_prompt(tmp_path):
    source = folder_of(
        tmp_path, **{"Romantic_Hensel, Fanny_Art Song": 3, "Baroque_Bach, Johann Sebastian_Choral": 1}
    )
    styles = read_styles([source])
    assert [(style.prompt, len(style.pieces)) for style in styles] == [(LIED, 3), (CHORALE, 1)]
    assert styles[0].name == "hensel-fanny-art-song-romantic"
    assert styles[0].lines == "%Romantic\n%Hensel, Fanny\n%Art Song\n"
    assert styles[0].pieces[0].text == piece(SCORES[0])
    assert styles[0].pieces[0].name == "Romantic_Hensel, Fanny_Art Song/0.abc"


def test_abc_without_sub_folders_is_one_style_without_a_prompt(tmp_path):
    shutil.copy(DATA / f"notation_{SCORES[0]}.abc", tmp_path / "a.abc")
    (style,) = read_styles([str(tmp_path)])
    assert (style.prompt, style.lines, style.name) == (None, "", "all")
    (tmp_path / "Romantic_Hensel").mkdir()
    shutil.copy(tmp_path / "a.abc", tmp_path / "Romantic_Hensel")
    with pytest.raises(NotaGenError, match="spells no prompt"):
        read_styles([str(tmp_path)])
    (tmp_path / "Romantic_Hensel").rename(tmp_path / "Romantic_Hensel, Fanny_Art Song")
    with pytest.raises(NotaGenError, match="with and without a prompt"):
        read_styles([str(tmp_path)])


def test_sources_that_hold_nothing_are_refused(tmp_path):
    for sources, message in (
        ([], "give --ground-truth"),
        ([str(tmp_path)], "neither a built data set"),
        ([str(tmp_path / "none")], "no such folder"),
    ):
        with pytest.raises(NotaGenError, match=message):
            read_styles(sources)
    (tmp_path / "a.abc").write_text("L:1/8\nK:C\n")
    with pytest.raises(NotaGenError, match=r"a\.abc: the text has no bars"):
        read_styles([str(tmp_path)])


def style(prompt: Prompt | None, count: int) -> Style:
    return Style(prompt, tuple(TruePiece(f"{n}", piece(SCORES[0])) for n in range(count)))


def test_prompts_with_ten_pieces_or_fewer_are_left_out():
    styles = [style(LIED, 11), style(CHORALE, 10), style(Prompt("Romantic", "Wolf, Hugo", "Art Song"), 40)]
    account = choose_styles(styles, known=None)
    assert [s.prompt.composer for s in account.used] == ["Hensel, Fanny", "Wolf, Hugo"]
    assert account.left_out[0][1] == "10 ground-truth pieces, not more than 10"
    assert len(choose_styles(styles, None, more_than=9).used) == 3
    known = choose_styles(styles, known=[LIED])
    assert [s.prompt for s in known.used] == [LIED]
    assert known.left_out[1][1] == "the checkpoint was not trained on it"
    assert len(choose_styles(styles, None, most=1).used) == 1
    (only,) = choose_styles(styles, None, only=["Romantic; Hensel, Fanny; Art Song"]).used
    assert only.prompt == LIED
    rows = account.rows()
    assert [row["ground_truth"] for row in rows] == [11, 40, 10]
    assert json.loads(json.dumps(rows)) == rows
    with pytest.raises(NotaGenError, match="nearest that have some: Romantic; Wolf, Hugo; Art Song"):
        choose_styles(styles, None, only=["Romantic; Wolff, Hugo; Art Song"])
    with pytest.raises(NotaGenError, match="no prompt is left"):
        choose_styles(styles, None, more_than=100)


def test_seeds_are_separate_for_every_purpose_and_do_not_move():
    styles = [style(LIED, 11), style(CHORALE, 11)]
    seen = [
        request.seed
        for purpose in ("selection", "evaluation")
        for k in range(3)
        for request in requests(styles, 50, 7, purpose, k)
    ]
    assert len(set(seen)) == len(seen) == 600
    assert all(0 <= seed < 1 << 64 for seed in seen)
    few, many = requests(styles, 5, 7, "selection", 1), requests(styles[::-1], 50, 7, "selection", 1)
    assert set(few) <= set(many)
    assert len({piece_seed(seed, "selection", 1, "song", 0) for seed in range(3)}) == 3


def drawn(number: int, text: str, finished: bool = True) -> Drawn:
    reason = "the piece came to its end" if finished else "given up: longer than 9 characters"
    return Drawn(f"song-{number:04d}", "song", number, finished, reason, 40, text)


def planted() -> tuple[list[Drawn], np.ndarray, GroundTruth, list[str]]:
    """Twenty samples, best first, the best ones each with another fault; and what is said of each."""
    misaligned = SONG.replace("[V:1]F F A A|", "[V:1]F F A|", 1)
    scattered = SONG.replace("V:3 bass", 'V:3 bass nm="Voice"', 1)
    assert misaligned != SONG
    assert scattered != SONG
    texts = [misaligned, scattered, SONG, *[SONG] * 15]
    samples = [drawn(n, text) for n, text in enumerate(texts)]
    samples += [drawn(18, SONG, finished=False), drawn(19, "%a\n%b\n%c\n%end\nL:1/8\n")]
    # The centroid stands between the two ground-truth pieces; sample n turns away from it by n.
    truth = GroundTruth(
        (Style(None, (TruePiece("left", ""), TruePiece("right", ""))),),
        np.array([[1.0, 1.0], [1.0, -1.0]], np.float32),
    )
    angles = np.array([0.01, 0.02, np.pi / 4 - 0.05, *np.linspace(0.1, 2.0, 15)])
    order = [
        "alignment",
        "staves",
        *["plagiarism" if abs(angle - np.pi / 4) < np.arccos(0.95) else "" for angle in angles[2:]],
        "score",
        "score",
    ]
    return samples, np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), truth, order


def test_every_candidate_that_fails_carries_its_reason(tmp_path):
    samples, features, truth, order = planted()
    heard = [hear(sample) for sample in samples]
    assert [one.text is None for one in heard] == [False] * 18 + [True] * 2
    candidates = judge_style(heard, features, truth, "all", Filters())
    for candidate, reason in zip(candidates, order, strict=True):
        assert list(candidate.reasons) == ([reason] if reason else []), candidate
    said = [text for candidate in candidates for text in candidate.reasons.values()]
    assert "first bar 2" in candidates[0].reasons["alignment"]
    assert 'comes back after "Piano"' in candidates[1].reasons["staves"]
    assert "to left is above 0.95" in candidates[2].reasons["plagiarism"]
    assert "given up: longer than 9 characters" in candidates[18].reasons["score"]
    assert "no tune body" in candidates[19].reasons["score"]
    assert all(said)
    # Every verdict has its reason, not only those against which a filter speaks.
    assert candidates[17].why == "rank 18 of 18: among the worst by CLaMP 2 score"
    assert candidates[0].why == f"rank 1 of 18: {candidates[0].reasons['alignment']}"
    assert candidates[3].why == "rank 3 of 18: among the best that pass the filters"
    assert candidates[18].why.startswith("no CLaMP 2 score: not finished: given up")
    assert all(candidate.why for candidate in candidates)

    # One of 18 is chosen, one rejected: the best without a fault, and the worst.
    assert [c.verdict for c in candidates].count("chosen") == 1
    assert candidates[3].verdict == "chosen"
    assert candidates[3].rank == 3
    assert [candidates[n].verdict for n in (0, 1)] == ["filtered", "filtered"]
    assert candidates[17].verdict == "rejected"
    assert candidates[18].verdict == candidates[19].verdict == "unranked"
    assert candidates[18].rank is None
    expected = np.cos(np.arctan2(features[:, 1], features[:, 0]))
    np.testing.assert_allclose([c.score for c in candidates[:18]], expected, atol=1e-6)

    totals = counts(candidates)
    verdicts = ("chosen", "filtered", "between", "rejected", "unranked")
    assert sum(totals[verdict] for verdict in verdicts) == totals["samples"] == 20
    assert totals["failing"] == {"alignment": 1, "staves": 1, "plagiarism": order.count("plagiarism")}
    path = tmp_path / "candidates.jsonl"
    write_candidates(path, candidates)
    assert read_candidates(path) == candidates
    chosen, rejected = preferences(candidates, samples, [Style(None, ())])[:1], candidates[17]
    assert (chosen[0].verdict, chosen[0].text) == ("chosen", SONG)
    assert rejected.name == "song-0017"


def test_tolerance_and_limit_let_more_pass():
    samples, features, truth, _ = planted()
    heard = [hear(sample) for sample in samples]
    tolerant = judge_style(heard, features, truth, "all", Filters(plagiarism=1.0, misaligned=0.1))
    assert tolerant[0].verdict == "chosen"
    assert not tolerant[2].reasons


def test_copies_are_told_note_by_note_where_the_judge_tells_none():
    samples, features, _, _ = planted()
    heard = [hear(sample) for sample in samples]
    others = (
        TruePiece("a", piece(SCORES[1])),
        TruePiece("b", piece(SCORES[2])),
        TruePiece("song", piece("reichardt_nachtlied")),
    )
    alike = GroundTruth((Style(None, others),), np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1]], np.float32))
    assert alike.share_above(0.95) == 1.0
    candidates = judge_style(heard, features, alike, "all", Filters(fill=False))
    for candidate in candidates[:18]:
        assert candidate.copied > 0.5
        assert "stands note by note in song" in candidate.reasons["plagiarism"]
    assert not [c for c in candidates if c.verdict == "chosen"]
    free = GroundTruth((Style(None, others[:2]),), alike.features[:2])
    candidates = judge_style(heard, features, free, "all", Filters())
    assert [c.name for c in candidates if c.verdict == "chosen"] == ["song-0003"]
    assert candidates[3].closest_cosine > 0.95
    assert candidates[3].copied < 0.1


def test_where_none_is_aligned_the_nearest_of_the_better_half_is_chosen():
    samples, features, truth, _ = planted()
    broken = SONG.replace("[V:1]F F A A|", "[V:1]F F A|", 1)
    worse = broken.replace("[V:1]G3 G|", "[V:1]G3|", 1)
    texts = [worse, broken, *[worse] * 16]
    heard = [hear(dataclasses.replace(s, text=t)) for s, t in zip(samples, texts, strict=False)]
    candidates = judge_style(heard, features, truth, "all", Filters(plagiarism=1.0))
    (chosen,) = (c for c in candidates if c.verdict == "chosen")
    assert chosen.name == "song-0001"
    assert chosen.why.startswith("rank 2 of 18: too few are aligned, of the better half")
    assert counts(candidates)["chosen_misaligned"] == 1
    strict = judge_style(heard, features, truth, "all", Filters(plagiarism=1.0, fill=False))
    assert not [c for c in strict if c.verdict == "chosen"]


def test_evaluation_counts_what_the_notation_says(tmp_path):
    samples, features, truth, _ = planted()
    samples = [dataclasses.replace(sample, style="all") for sample in samples]
    pieces = evaluate([hear(sample) for sample in samples], features, truth)
    whole = summarise(pieces)
    bars = check(piece("reichardt_nachtlied")).bars
    assert whole.bar_alignment_error == pytest.approx(1 / (18 * bars))
    assert (whole.finished, whole.scored, whole.aligned) == (19 / 20, 18 / 20, 17 / 18)
    scores = [one.score for one in pieces if one.score is not None]
    assert whole.score == pytest.approx(np.mean(scores))
    assert whole.score_error == pytest.approx(np.std(scores, ddof=1) / np.sqrt(18))
    assert by_style(pieces)["styles"]["all"] == by_style(pieces)["overall"]
    write_evaluated(tmp_path / "pieces.jsonl", pieces)
    assert read_evaluated(tmp_path / "pieces.jsonl") == pieces
    # Every prompt weighs as much, however many of its pieces ended.
    other = [dataclasses.replace(one, style="other", score=0.5) for one in pieces[:2]]
    assert summarise([*pieces, *other]).score == pytest.approx((np.mean(scores) + 0.5) / 2)
    assert summarise([*pieces, *other]).score_error == pytest.approx(whole.score_error / 2)
    assert summarise([*pieces, *other[:1]]).score_error is None
    with pytest.raises(NotaGenError, match="no evaluation sample"):
        summarise([])


class CountingJudge:
    """Features that tell which text they are of; stops working after some calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.seen: list[str] = []

    def music_features(self, texts):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.seen += texts
        return np.array([[float(text), 1.0] for text in texts], np.float32)


def test_features_are_made_in_parts_and_kept(tmp_path):
    texts = [str(n) for n in range(2 * PART + 5)]
    expected = np.array([[float(text), 1.0] for text in texts], np.float32)
    path = tmp_path / "features.safetensors"
    broken, rest = CountingJudge(2), CountingJudge(5)
    with pytest.raises(KeyboardInterrupt):
        features_of(path, lambda: broken, texts, lambda _: None)
    assert not path.exists()
    np.testing.assert_array_equal(features_of(path, lambda: rest, texts, lambda _: None), expected)
    assert rest.seen == texts[2 * PART :]
    none = CountingJudge(0)
    np.testing.assert_array_equal(features_of(path, lambda: none, texts, lambda _: None), expected)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    other = CountingJudge(9)
    assert len(features_of(path, lambda: other, texts[:3], lambda _: None)) == 3
    deaf = CountingJudge(1)
    with pytest.raises(NotaGenError, match="piece 2 features that are not finite"):
        features_of(tmp_path / "other", lambda: deaf, ["1", "nan"], lambda _: None)
    path.write_bytes(b"broken")
    with pytest.raises(NotaGenError, match="cannot read the features"):
        features_of(path, lambda: none, texts, lambda _: None)
