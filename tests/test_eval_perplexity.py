"""Perplexity: every character once, in windows that read what sampling would have kept."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from eval import perplexity
from eval.perplexity import Perplexity, Scored, figures, run, score
from eval.stream_windows import stream_windows
from notagen_jax.checkpoints import save
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.losses import char_log_probs, nll_sum
from notagen_jax.model import init_params
from notagen_jax.patches import decode, encode_piece
from notagen_jax.sampling.windows import next_window
from train.corpus import Corpus

DATA = Path(__file__).parent / "data"
PIECE = encode_piece((DATA / "reduced_reichardt_wenn_ich_ihn.abc").read_text())
CONFIG = ModelConfig(64, 1, 1, 512, dropout=0.0, attention_dropout=0.0)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


@pytest.mark.parametrize("length", [40, 48, 64, 107, 108, 10_000])
def test_every_patch_counts_once_and_sees_what_sampling_would_keep(length):
    windows = stream_windows(PIECE, length)
    assert (len(windows) == 1) == (length >= PIECE.length)
    counted = np.concatenate([window.patches[window.first :] for window in windows])
    np.testing.assert_array_equal(counted, PIECE.patches[1:])
    config = CONFIG.replace(patch_length=length)
    kept, written = None, len(windows[0].patches)
    for window in windows[1:]:
        # The text that a sampler would have written by now, and the window that it would open on it.
        known, kept = next_window(config, decode(PIECE.patches[:written]), kept)
        assert decode(window.patches[: window.first]) == decode(known.patches) + known.tail.tobytes().decode()
        assert len(window.patches) <= length
        written += len(window.patches) - window.first


def test_a_line_that_fills_a_window_is_cut_and_counts():
    text = (DATA / "reduced_schroter_geburtstag.abc").read_text()
    piece = encode_piece(text[: text.index("[V:1]")] + "[V:1]" + "A2 B2 c2 d2|" * 60 + "\n[V:1]A|\n")
    windows = stream_windows(piece, 40)
    counted = np.concatenate([window.patches[window.first :] for window in windows])
    np.testing.assert_array_equal(counted, piece.patches[1:])
    assert all(len(piece.metadata) < window.first for window in windows[1:])


def test_metadata_that_fill_the_window_are_refused():
    with pytest.raises(NotaGenError, match="leave no room in a window"):
        stream_windows(PIECE, len(PIECE.metadata) + 1)


def test_a_piece_inside_the_window_has_the_loss_of_training(params):
    (scored,) = score(CONFIG, params, [("a", (), PIECE)], batch=2)
    total, count = jax.jit(nll_sum, static_argnums=0)(CONFIG, params, PIECE.patches[None])
    assert scored.characters == int(count)
    assert scored.nll == pytest.approx(float(total), rel=1e-5)
    assert scored.patches == PIECE.length - 1


def test_windows_are_scored_as_if_each_stood_alone(params):
    small = CONFIG.replace(patch_length=64)
    cut = {**params, "patch_decoder": {**params["patch_decoder"], "wpe": params["patch_decoder"]["wpe"][:64]}}
    (scored,) = score(small, cut, [("a", (), PIECE)], batch=3)
    total = 0.0
    for window in stream_windows(PIECE, 64):
        padded = np.zeros((1, 64, 16), np.uint8)
        padded[0, : len(window.patches)] = window.patches
        log_probs, _ = jax.jit(char_log_probs, static_argnums=0)(small, cut, padded)
        total -= float(log_probs[0, window.first - 1 :].sum())
    assert scored.nll == pytest.approx(total, rel=1e-5)
    assert scored.characters == int((PIECE.patches[1:] != 0).sum())


def test_figures_are_means_over_characters():
    pieces = [Scored("a", (), 10.0, 10, 2), Scored("b", (), 0.0, 30, 2)]
    found = figures(pieces)
    assert found["perplexity_char"] == pytest.approx(math.exp(0.25))
    assert found["perplexity_patch"] == pytest.approx(math.exp(2.5))
    assert found["bits_per_char"] == pytest.approx(0.25 / math.log(2))


def test_the_command_scores_files_and_splits(params, tmp_path, capsys, monkeypatch):
    save(tmp_path / "model", CONFIG, params)
    song = DATA / "reduced_schroter_geburtstag.abc"
    report = run(Perplexity((song,), str(tmp_path / "model"), json=tmp_path / "report.json"))
    assert "overall" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["overall"] == report["overall"]
    assert report["overall"]["perplexity_char"] == pytest.approx(128, rel=0.3)  # nothing is learnt yet
    labels = {"period": b"Romantic", "composer": b"Schroter", "instrumentation": b"Art Song"}
    row = {"name": b"song", "text": song.read_bytes(), "original_key": 3, **labels}
    opened = []

    def open_corpus(*place: str) -> Corpus:
        opened.append(place)
        return Corpus("songs", [row] * 30)

    monkeypatch.setattr(perplexity, "open_corpus", open_corpus)
    split = run(Perplexity((), str(tmp_path / "model"), data=("songs",), split="train", most=1))
    assert opened == [("songs", "train")]
    assert split["overall"] == report["overall"] == split["by_label"]["composer: Schroter"]
    bad = tmp_path / "bad.abc"
    bad.write_text("X:1\nK:C\n")
    with pytest.raises(NotaGenError, match=r"bad\.abc: no tune body"):
        run(Perplexity((bad,), str(tmp_path / "model")))
    with pytest.raises(NotaGenError, match="nothing to score"):
        run(Perplexity())
