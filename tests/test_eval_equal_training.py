"""The same training here and in PyTorch, step by step, on real pieces."""

import json
from pathlib import Path

import pytest

from eval import equal_training
from eval.equal_training import EqualTraining, run
from notagen_jax.errors import NotaGenError
from notagen_jax.score import read_piece
from train.corpus import Corpus

pytest.importorskip("torch")
pytest.importorskip("transformers")
DATA = Path(__file__).parent / "data"


def songs(_folder: str, _split: str) -> Corpus:
    """Two songs in 15 keys, in the record form of the builders."""
    labels = {"period": b"Romantic", "composer": b"X", "instrumentation": b"Art Song", "original_key": 1}
    return Corpus(
        "songs",
        [
            {"name": name.encode(), "text": text.encode(), **labels}
            for name in ("hensel_sehnsucht", "duchambge_ronde")
            for text in read_piece(DATA / f"{name}.mxl").reduced_all().values()
        ],
    )


def test_losses_are_those_of_pytorch(monkeypatch, tmp_path):
    monkeypatch.setattr(equal_training, "open_corpus", songs)
    plot = tmp_path / "curves.svg"
    options = EqualTraining(
        "songs", tmp_path, 64, 2, 1, rows=2, length=48, steps=8, learning_rate=3e-3, warmup_steps=2, plot=plot
    )
    figures = run(options)
    # Far below what the full run allows: a step in the wrong order or a decay forgotten is 1e-4 and more.
    assert figures["largest_difference"] < 2e-5
    assert figures["last_loss"] < figures["first_loss"]
    assert json.loads((tmp_path / "losses.json").read_text())["losses"] == figures["losses"]
    assert "<svg" in plot.read_text()


def test_other_training_is_told_apart(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(equal_training, "losses_here", lambda *_: [4.8, 4.7, 4.6])
    monkeypatch.setattr(equal_training, "losses_in_torch", lambda *_: [4.8, 4.71, 4.6])
    figures = run(EqualTraining("songs", tmp_path, 64, 1, 1, steps=3))
    assert not figures["within_tolerance"]
    assert figures["at_step"] == 2
    assert "NOT within" in capsys.readouterr().out


def test_no_steps_are_refused():
    with pytest.raises(NotaGenError, match="--steps"):
        EqualTraining("songs", steps=0)
