"""Table 2: what compares texts, and the page and picture of given rows."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from eval import adopt, table2_texts
from eval.table2_measures import Row
from eval.table2_page import markdown, plot
from eval.table2_texts import Copying, Texts
from eval.table2_verdict import claims, lines
from notagen_jax import checkpoints
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.losses import nll
from notagen_jax.patches import encode_piece
from tests.test_train_data import PROMPT, corpus
from tests.tiny_composer import random_params
from train.corpus import Corpus
from train.dpo.pairs import pad

BACH = Prompt("Baroque", "Bach, Johann Sebastian", "Choral")
MODEL = ModelConfig(64, 1, 1, 64)


def relabelled(pieces: int, composer: str) -> Corpus:
    """Made-up pieces of another composer."""
    made = corpus(pieces)
    for row in made.rows:
        row["composer"] = composer.encode()
    return made


@pytest.fixture
def texts(tmp_path, monkeypatch) -> Texts:
    """Two data sets: four training and two held-out pieces by Bach, one held-out one by another."""
    splits = {
        ("bach", "train"): corpus(4), ("bach", "validation"): corpus(2),
        ("other", "train"): relabelled(2, "Other, An"), ("other", "validation"): relabelled(1, "Other, An"),
    }  # fmt: skip
    folders = []
    for name in ("bach", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / table2_texts.BUILT).write_text("{}")
        folders.append(str(tmp_path / name))
    monkeypatch.setattr(table2_texts, "open_corpus", lambda folder, split: splits[Path(folder).name, split])
    monkeypatch.setattr(table2_texts, "has_held_out", lambda folder: True)
    return Texts([*folders, str(tmp_path)], "train", {BACH})


def test_perplexity_is_that_of_the_held_out_pieces_of_the_prompts(texts, tmp_path):
    assert [piece.text.startswith(PROMPT) for piece in texts.held_out] == [True, True]
    params = random_params(MODEL)
    checkpoints.save(tmp_path / "model", MODEL, params)
    place = tmp_path / "perplexity.json"
    found = texts.perplexity(place, tmp_path / "model", lambda _: None)
    rows = pad([encode_piece(piece.text).patches for piece in texts.held_out], MODEL.patch_length)
    expected = float(jax.jit(nll, static_argnums=0)(MODEL, params, rows))
    assert found == pytest.approx(math.exp(expected), rel=1e-5)
    kept = json.loads(place.read_text())
    kept["found"]["perplexity_char"] = 1.5
    place.write_text(json.dumps(kept))
    assert texts.perplexity(place, tmp_path / "model", lambda _: None) == 1.5


def test_the_closest_training_piece_of_every_sample_is_kept(texts, tmp_path):
    copied = texts.held_out[1].text  # the made-up corpora hold the same pieces
    other = "%a\nK:H\n[V:1]z8|\n"
    place = tmp_path / "closest.json"
    found = texts.copying(place, [("a", copied), ("b", other)], lambda _: None)
    assert (found.name, found.largest, found.mean) == ("a", 1.0, 0.5)
    kept = json.loads(place.read_text())["found"]
    assert [row["name"] for row in kept] == ["a", "b"]
    assert kept[1]["containment"] == 0.0
    assert texts.copying(tmp_path / "none.json", [], lambda _: None) is None


def test_without_data_sets_there_is_neither(tmp_path):
    texts = Texts([str(tmp_path)], "train", {BACH})
    assert texts.perplexity(tmp_path / "p.json", "mini", lambda _: None) is None
    assert texts.copying(tmp_path / "c.json", [("a", "K:C")], lambda _: None) is None


ROWS = [
    Row("ground truth", score=0.8, labels={"period": 0.95}, bar_alignment_error=0.001, prompts={"P": 0.8}),
    Row(
        "K = 0", score=0.5, score_error=0.02, second_score=0.4, second_error=0.02, labels={"period": 0.8},
        bar_alignment_error=0.1, perplexity=1.3, finished=0.9, aligned=0.6,
        copying=Copying(0.1, 0.5, "a", "b"), prompts={"P": 0.5},
    ),
    Row(
        "K = 1", score=0.6, second_score=0.45, second_error=0.02, labels={"period": 0.9},
        bar_alignment_error=0.05, perplexity=1.4, finished=1.0, aligned=0.7, prompts={"P": 0.6},
    ),
]  # fmt: skip


def test_the_page_shows_what_is_known():
    page = markdown(ROWS, {"judge": "judge", "second judge": None})
    lines = page.splitlines()
    assert lines[0] == "judge: judge"
    head, _, truth, first, second = lines[2:7]
    assert "composer" not in head
    columns = dict(zip(head.split(" | "), first.split(" | "), strict=True))
    assert columns["CLaMP 2 score"] == "0.5000 ± 0.0200"
    assert columns["period acc. %"] == "80.00"
    assert columns["BAE %"] == "10.00"
    assert columns["closest training piece % (largest)"] == "10.0 (50.0)"
    assert truth.count("–") == 5
    assert "0.4500 ± 0.0200" in second
    assert "| P | 0.8000 | 0.5000 | 0.6000 |" in page


def test_the_picture_is_the_same_for_the_same_table():
    picture = plot(ROWS)
    assert picture == plot(ROWS)
    assert picture.rstrip().endswith("</svg>")
    for title in ("CLaMP 2 score", "label accuracy", "bar alignment error", "perplexity"):
        assert f"<!-- {title}" in picture


def test_the_claims_are_asked_of_the_rows():
    found = {claim.name: claim for claim in claims(ROWS)}
    assert {name: claim.holds for name, claim in found.items()} == {
        "score": True,
        "period": True,
        "bar alignment error": True,
        "second judge": True,
    }
    assert found["score"].figures == "0.5000, 0.6000"
    assert "(10.0 % to 5.0 %)" in lines(list(found.values()))
    # Within the standard error it does not agree.
    doubtful = [*ROWS[:2], dataclasses.replace(ROWS[2], second_score=0.42, score=0.5, labels={})]
    assert [claim.name for claim in claims(doubtful) if not claim.holds] == ["score", "second judge"]
    assert claims(ROWS[:2]) == []


def test_the_last_policy_is_packaged_if_the_second_judge_agrees(tmp_path):
    """The model before it stays beside it, and the card tells of the table."""
    run, packaged = tmp_path / "run", tmp_path / "packaged"
    models = {place: random_params(MODEL, seed) for seed, place in enumerate(("mini", "policy"))}
    checkpoints.save(packaged / "mini", MODEL, models["mini"], labels=(BACH,), advice={"temperature": 1.0})
    (packaged / "mini" / "MODEL_CARD.md").write_text("# mini\n")
    policy = run / "iteration-1" / "policy"
    checkpoints.save(policy, MODEL, models["policy"], labels=(BACH,), advice={"temperature": 1.0})
    (run / "settings.json").write_text(json.dumps({"checkpoint": str(packaged / "mini")}))
    (run / "table2").mkdir()
    (run / "table2" / "table2.md").write_text("| K |\n")

    def adopt_with(rows: list[Row]) -> None:
        found = {"rows": [None] * len(rows), "claims": [claim._asdict() for claim in claims(rows)]}
        (run / "table2" / "table2.json").write_text(json.dumps(found))
        adopt.run(adopt.Adopt(run, packaged))

    with pytest.raises(NotaGenError, match="the second judge does not agree"):
        adopt_with([*ROWS[:2], dataclasses.replace(ROWS[2], second_score=0.3)])
    with pytest.raises(NotaGenError, match="has no second judge"):
        adopt_with([*ROWS[:2], dataclasses.replace(ROWS[2], second_score=None)])
    assert not (packaged / "mini-finetuned").exists()
    for _ in range(2):  # a second time, from the model that was kept
        adopt_with(ROWS)
        (run / "settings.json").write_text(json.dumps({"checkpoint": str(packaged / "mini-finetuned")}))
    for name, place in (("mini", "policy"), ("mini-finetuned", "mini")):
        found = checkpoints.load(packaged / name)
        assert found.labels == (BACH,)
        assert found.advice == {"temperature": 1.0}
        table = found.params["char_decoder"]["wte"]
        np.testing.assert_allclose(table, models[place]["char_decoder"]["wte"], rtol=0.01)
    card = (packaged / "mini" / "MODEL_CARD.md").read_text()
    assert card == "# mini\n\n## CLaMP-DPO\n\n1 iteration from `mini-finetuned`.\n\n| K |\n"
    assert (packaged / "mini-finetuned" / "MODEL_CARD.md").read_text() == "# mini\n"


def test_the_finetuned_name_is_always_known():
    assert checkpoints.locate("mini-finetuned", "mini").parent == checkpoints.locate("mini", "mini").parent
