"""The benchmark of the pre-processing compares the texts, and counts only what both sides prepare."""

import json
import shutil
from pathlib import Path

import pytest

from eval.prepare_speed import PrepareSpeed, prepare_speed
from notagen_jax.errors import NotaGenError

DATA = Path(__file__).parent / "data"


def test_the_ratio_is_of_scores_that_both_prepare(tmp_path, capsys):
    folder = tmp_path / "scores"
    folder.mkdir()
    for name in ("brahms_ich_schell", "mozart_k464_opening"):
        shutil.copy(DATA / f"{name}.mxl", folder)
    prepare_speed(PrepareSpeed(folder, json=tmp_path / "speed.json"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "texts equal: 1 of 1 scores × 16 texts" in printed
    figures = json.loads((tmp_path / "speed.json").read_text())
    (one,) = figures["seconds"]
    assert one["equal"] is True
    assert one["score"].endswith("mozart_k464_opening.mxl")
    assert figures["official_pieces_a_second"] == pytest.approx(
        1 / (one["convert"] + one["texts"] + one["writing"])
    )
    ((left_out, reason),) = figures["left_out"].items()
    assert left_out == str(folder / "brahms_ich_schell.mxl")
    assert reason.startswith("only ours prepares it; the official steps fail")


def test_without_scores_it_says_so(tmp_path):
    with pytest.raises(NotaGenError, match="no MusicXML score found"):
        prepare_speed(PrepareSpeed(tmp_path))
    with pytest.raises(NotaGenError, match="--scores 0: must be at least 1"):
        prepare_speed(PrepareSpeed(DATA, scores=0))
