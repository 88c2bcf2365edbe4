"""`notagen score` and `python -m eval.clamp2_features`: from files to scores and features."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval import clamp2_features
from notagen_jax import clamp2
from notagen_jax.clamp2.score_text import interleaved_texts
from notagen_jax.cli import main
from notagen_jax.errors import NotaGenError
from notagen_jax.notation.restore import restore_rests
from notagen_jax.preference import centroid, clamp2_scores, cosines

DATA = Path(__file__).parent / "data"
CHORALE = DATA / "reduced_bach_bwv379.abc"
SONG = DATA / "brahms_ich_schell.mxl"


def notagen(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict], str]:
    """Run the command in this process: exit status, JSON lines, standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), [json.loads(line) for line in captured.out.splitlines()], captured.err


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ground truth: a chorale, interleaved, and a song as MusicXML."""
    folder = tmp_path_factory.mktemp("truth")
    (folder / "chorale.abc").write_text(restore_rests(CHORALE.read_text(encoding="ascii")))
    shutil.copy(SONG, folder / "song.mxl")
    return folder


def test_scores_are_cosines_to_the_mean_of_the_folder(truth, tmp_path, capsys):
    sampled = tmp_path / "sampled.abc"
    lines = CHORALE.read_text(encoding="ascii").splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("[V:"))
    body = [f"[r:{i}/{len(lines) - first - 1 - i}]{line}" for i, line in enumerate(lines[first:])]
    prompt = ["%Baroque", "%Bach, Johann Sebastian", "%Choral", "%end"]
    sampled.write_text("\n".join([*prompt, *lines[:first], *body]) + "\n")

    status, scored, err = notagen(capsys, "score", sampled, SONG, CHORALE, "--against", truth)
    assert status == 0, err
    assert [Path(line["file"]) for line in scored] == sorted([sampled, SONG, CHORALE])
    by_name = {Path(line["file"]): line for line in scored}
    assert by_name[sampled]["nearest"] == str(truth / "chorale.abc")
    assert by_name[sampled]["nearest_score"] == pytest.approx(1, abs=1e-6)
    assert by_name[SONG]["nearest"] == str(truth / "song.mxl")
    assert by_name[CHORALE]["score"] == pytest.approx(by_name[sampled]["score"], abs=1e-6)
    assert "mean score" in err

    model = clamp2.load("judge")
    texts = [next(interleaved_texts(truth / name))[1] for name in ("chorale.abc", "song.mxl")]
    features = model.music_features(texts)
    expected = clamp2_scores(features, centroid(features))
    assert by_name[CHORALE]["score"] == pytest.approx(expected[0], abs=1e-5)
    assert by_name[SONG]["score"] == pytest.approx(expected[1], abs=1e-5)
    assert cosines(features, features)[0, 1] < 0.999  # a chorale and a song differ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", DATA], "no files given"),
        ([CHORALE, "--against", "nowhere"], "nowhere: no such file or folder"),
        ([CHORALE, "--against", DATA, "--clamp2", "mini"], "mini"),
    ],
)
def test_wrong_use_gives_one_line(arguments, message, capsys):
    status, _, err = notagen(capsys, "score", *arguments)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


def test_a_bad_file_is_named_and_the_others_scored(truth, tmp_path, capsys):
    (tmp_path / "cut.mxl").write_bytes(SONG.read_bytes()[:500])
    (tmp_path / "headless.abc").write_text("[V:1]C4|\n")
    (tmp_path / "good.abc").write_text(CHORALE.read_text(encoding="ascii"))
    status, scored, err = notagen(capsys, "score", tmp_path, "--against", truth)
    assert status == 1
    assert [Path(line["file"]).name for line in scored] == ["good.abc"]
    assert "cut.mxl" in err
    assert "headless.abc" in err
    assert "2 scores could not be read" in err


def test_features_are_extracted_once(truth, tmp_path, capsys, monkeypatch):
    (truth / "text.txt").write_text("A Baroque choral work\nby Bach, Johann Sebastian\n")
    options = clamp2_features.Features((truth,), tmp_path / "out")
    assert clamp2_features.run(options) == 0
    model = clamp2.load("judge")
    chorale = np.load(tmp_path / "out" / "chorale.npy")
    assert chorale.shape == (1, model.config.width)
    assert chorale.dtype == np.float32
    (_, text) = next(interleaved_texts(truth / "chorale.abc"))
    np.testing.assert_allclose(chorale, model.music_features([text]), atol=1e-5)
    expected = model.text_features(["A Baroque choral work\nby Bach, Johann Sebastian\n"])
    np.testing.assert_allclose(np.load(tmp_path / "out" / "text.npy"), expected, atol=1e-5)

    (tmp_path / "out" / "song.npy").unlink()
    made = (tmp_path / "out" / "chorale.npy").stat().st_mtime_ns
    capsys.readouterr()
    assert clamp2_features.run(options) == 0
    assert "2 done before, 1 to do" in capsys.readouterr().err
    assert (tmp_path / "out" / "song.npy").is_file()
    assert (tmp_path / "out" / "chorale.npy").stat().st_mtime_ns == made
    # Nothing to do: not even the model is opened.
    monkeypatch.setattr(clamp2, "load", lambda *_, **__: pytest.fail("opened"))
    assert clamp2_features.run(options) == 0


def test_two_scores_of_one_name_are_refused(truth, tmp_path):
    (tmp_path / "chorale.abc").write_text("")
    with pytest.raises(NotaGenError, match=r"both features would be .*chorale\.npy"):
        clamp2_features.run(clamp2_features.Features((truth, tmp_path), tmp_path / "out"))


def test_the_judge_needs_no_heavy_package():
    """The packaged judge works without PyTorch, the training packages, and, for scores, tokenizers."""
    script = (
        "import sys; sys.modules['tokenizers'] = None; from notagen_jax import clamp2\n"
        "model = clamp2.load('judge')\n"
        "assert model.music_features(['K:C\\n[V:1]C4|\\n']).shape == (1, 256)\n"
        "try: model.text_features(['a song'])\n"
        "except Exception as error: assert 'notagen-jax[text]' in str(error), error\n"
        "else: raise AssertionError\n"
        "print(sorted({'torch', 'transformers', 'orbax', 'optax', 'grain', 'tensorflow'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=DATA.parent.parent
    )
    assert ran.stdout.strip() == "[]"
