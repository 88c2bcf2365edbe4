"""Judging samples: three foreign readers, shares over pieces, and a run that goes on."""

import dataclasses
import json
import os
import shutil

import jax
import pytest

from eval import readers
from eval.samples import (
    REPORT_FILE,
    SETTINGS_FILE,
    VERDICTS_FILE,
    Samples,
    Verdict,
    _check_settings,
    judge,
    parse_prompt,
    run,
    summarise,
)
from notagen_jax.checkpoints import save
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.model import init_params
from notagen_jax.notation import restore_rests
from notagen_jax.notation.musicxml import to_musicxml
from notagen_jax.sampling import SamplingSettings
from tests.notation_pieces import piece
from train.clamp_dpo.samples import Drawn


@pytest.fixture
def abc2midi() -> None:
    if shutil.which("abc2midi") is None:
        missing = "abc2midi is not installed; install the package abcmidi"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


def test_samples_drawn_otherwise_are_not_taken_for_ours(tmp_path):
    asked = {"weights": "a", **dataclasses.asdict(SamplingSettings())}
    older = {name: value for name, value in asked.items() if name != "bar_attempts"}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(older))
    _check_settings(tmp_path, asked)  # a setting that the folder is older than is what it was before
    with pytest.raises(NotaGenError, match=r"other settings \(bar_attempts"):
        _check_settings(tmp_path, {**asked, "bar_attempts": 16})


def drawn(text: str) -> Drawn:
    return Drawn("a", "chorales", 0, True, "", 1, text)


def test_a_sound_piece_is_taken_by_all_readers(abc2midi):
    verdict = judge(drawn(piece("bach_generated")))
    assert verdict.opens, verdict
    assert verdict.aligned
    assert (verdict.misaligned, verdict.not_converted) == (0, None)
    assert verdict.bars > 8
    assert verdict.one_key


def test_a_voice_in_another_key_is_found(abc2midi):
    verdict = judge(drawn(piece("bach_generated").replace("[K:Gb]", "[K:G]", 1)))
    assert (verdict.aligned, verdict.one_key) == (True, False)


def test_a_short_bar_is_found_by_abc2midi_and_by_us(abc2midi):
    verdict = judge(drawn(piece("bach_generated").replace("[V:2]G2 G2", "[V:2]G2", 1)))
    assert "quarter notes long not" in verdict.abc2midi
    assert (verdict.misaligned, verdict.aligned, verdict.opens) == (1, False, False)
    assert verdict.music21 is None


def test_what_is_no_music_is_taken_by_none(abc2midi):
    verdict = judge(drawn("%Baroque\n%Bach\nK:C\n"))
    reasons = {verdict.not_converted, verdict.abc2midi, verdict.verovio, verdict.music21}
    assert len(reasons) == 1
    assert "no bars" in reasons.pop()


def test_readers_count_the_notes():
    score = to_musicxml(restore_rests(piece("bach_generated")))
    assert readers.music21_fault(score) is None
    assert readers.verovio_fault(score) is None
    more = score.__class__(score.document, score.notes + 1, ())
    assert readers.music21_fault(more) == f"it reads {score.notes} of {score.notes + 1} notes"
    assert readers.verovio_fault(more) is not None


def test_shares_are_of_pieces_and_of_bars():
    good = Verdict("a", "x", True, bars=9, aligned=True, one_key=True, bars_redrawn=3)
    bad = Verdict("b", "x", False, bars=1, misaligned=1, music21="it reads 1 of 2 notes", bars_redrawn=0)
    shares = summarise([good, bad])
    assert shares["bar_alignment_error"] == 0.1
    assert (shares["finished"], shares["aligned"], shares["music21"], shares["opens"]) == (0.5,) * 4
    assert (shares["converted"], shares["verovio"]) == (1.0, 1.0)
    assert (shares["one_key"], shares["bars"], shares["bars_redrawn"]) == (0.5, 5, 1.5)
    unread = Verdict("c", "x", False, not_converted="nothing")
    assert summarise([good, unread])["bars_redrawn"] is None
    nothing = summarise([unread])
    assert nothing["bar_alignment_error"] == 1.0
    assert nothing["bars_redrawn"] is None  # of a sample that was drawn before bars were counted


def test_a_run_is_kept_and_goes_on(abc2midi, tmp_path, capsys):
    config = ModelConfig(64, 1, 1, 64)
    save(tmp_path / "model", config, init_params(config, jax.random.key(0)))
    options = Samples(
        out=tmp_path,
        checkpoint=str(tmp_path / "model"),
        prompts=("Baroque; Bach, Johann Sebastian; Choral",),
        number=2,
        max_patches=12,
    )
    report = run(options)
    assert report["overall"]["pieces"] == 2
    assert report["overall"]["finished"] == 0
    assert "Baroque; Bach, Johann Sebastian; Choral" in capsys.readouterr().out
    assert json.loads((tmp_path / REPORT_FILE).read_text()) == report
    names = [json.loads(line)["name"] for line in (tmp_path / VERDICTS_FILE).read_text().splitlines()]
    assert names == ["000-0", "000-1"]
    kept = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert all(sample["bars_redrawn"] == 0 for sample in kept)
    before = (tmp_path / "samples.jsonl").stat().st_mtime_ns
    assert run(options) == report
    assert (tmp_path / "samples.jsonl").stat().st_mtime_ns == before
    with pytest.raises(NotaGenError, match=r"other settings \(temperature; settings.json"):
        run(dataclasses.replace(options, temperature=1.0))
    with pytest.raises(NotaGenError, match=r"other settings \(prompts"):
        run(dataclasses.replace(options, prompts=("Romantic; Brahms, Johannes; Art Song",)))
    (tmp_path / SETTINGS_FILE).unlink()
    with pytest.raises(
        NotaGenError, match=r"no settings.json that tells how .* choose another --out, or delete"
    ):
        run(options)


def test_a_prompt_is_three_labels():
    assert parse_prompt("Baroque; Bach, Johann Sebastian; Choral").composer == "Bach, Johann Sebastian"
    with pytest.raises(NotaGenError, match="write it as"):
        parse_prompt("Baroque, Bach")
