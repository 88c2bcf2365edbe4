"""`notagen generate` and `notagen loglik`: music from the packaged model, and one clear line on bad input."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from notagen_jax import checkpoints
from notagen_jax.cli import main
from notagen_jax.config import ModelConfig
from notagen_jax.labels import Prompt
from notagen_jax.losses import nll
from notagen_jax.model import init_params
from notagen_jax.patches import encode_training

DATA = Path(__file__).parent / "data"
BACH = ["--period", "Baroque", "--composer", "Bach, Johann Sebastian", "--instrumentation", "Choral"]


def notagen(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process: exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A converted checkpoint of random weights, trained on nothing but labelled so."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    config = ModelConfig(64, 1, 1, 64)
    params = init_params(config, jax.random.key(0))
    labels = [
        Prompt("Baroque", "Bach, Johann Sebastian", "Choral"),
        Prompt("Romantic", "Wolf, Hugo", "Art Song"),
    ]
    checkpoints.save(folder, config, params, labels=labels)
    return folder


def test_generate_writes_a_chorale_in_every_format(capsys, tmp_path):
    status, out, err = notagen(capsys, "generate", *BACH, "-n", 1, "--seed", 0, "--out", tmp_path)
    assert status == 0, err
    assert "1 of 1 pieces written whole" in out
    (record,) = json.loads((tmp_path / "report.json").read_text())
    assert record["finished"]
    suffixes = {"".join(Path(name).suffixes) for name in record["files"]}
    assert suffixes == {".raw.abc", ".validity.json", ".abc", ".musicxml", ".mid", ".svg", ".pdf"}
    assert all((tmp_path / name).stat().st_size for name in record["files"])
    raw = (tmp_path / "bach-choral-0.raw.abc").read_text()
    assert raw.startswith("%Baroque\n%Bach, Johann Sebastian\n%Choral\n%end\n")
    verdict = json.loads((tmp_path / "bach-choral-0.validity.json").read_text())
    assert len(verdict["voices"]) >= 4 if isinstance(verdict["voices"], list) else verdict["voices"] >= 4


def test_generate_goes_on_from_a_prefix(capsys, tmp_path):
    text = (DATA / "reduced_bach_bwv379.abc").read_text()
    body = text.index("[V:1]")
    prefix = tmp_path / "opening.abc"
    prefix.write_text(text[:body] + "[r:0/9]" + text[body : text.index("\n", body) + 1])
    notagen(capsys, "generate", "--prefix", prefix, "--out", tmp_path / "out", "--formats", "abc")
    assert (tmp_path / "out" / "opening-0.raw.abc").read_text().startswith(prefix.read_text())


def test_a_piece_given_up_is_kept_and_counted(capsys, tmp_path, tiny):
    status, out, err = notagen(
        capsys, "generate", *BACH, "-c", tiny, "-n", 2, "--max-chars", 300, "--out", tmp_path
    )
    assert status == 1
    assert "0 of 2 pieces written whole" in out
    assert "bach-choral-0: " in err
    assert len((tmp_path / "bach-choral-1.raw.abc").read_text()) > 300
    records = json.loads((tmp_path / "report.json").read_text())
    assert [record["finished"] for record in records] == [False, False]


def test_list_prompts(capsys, tiny):
    status, out, _ = notagen(capsys, "generate", "-c", tiny, "--list-prompts")
    assert status == 0
    assert out.splitlines() == ["Baroque; Bach, Johann Sebastian; Choral", "Romantic; Wolf, Hugo; Art Song"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the prompt lacks --period, --composer, --instrumentation"),
        ([*BACH[:4], "--instrumentation", "Chorl"], "Baroque; Bach, Johann Sebastian; Choral"),
        ([*BACH, "-n", "0"], "must be at least 1"),
        ([*BACH, "--formats", "gif"], "gif; choose from abc, xml, midi, svg, pdf"),
        ([*BACH, "--top-p", "0"], "top_p"),
        ([*BACH, "--temperature", "-1"], "temperature"),
        ([*BACH, "--seed", "-1"], "seed -1"),
        ([*BACH, "-c", "nowhere.pth"], "nowhere.pth: no such file"),
        (["--prefix", "nowhere.abc"], "nowhere.abc: cannot read"),
        ([*BACH, "--out", "/dev/null/out"], "/dev/null/out"),
    ],
)
def test_generate_refuses_in_one_clear_error(capsys, tmp_path, tiny, arguments, message):
    arguments = arguments if "--out" in arguments else [*arguments, "--out", tmp_path]
    arguments = arguments if "-c" in arguments else [*arguments, "-c", tiny]
    status, _, err = notagen(capsys, "generate", *arguments)
    assert status == 1
    assert err.startswith("notagen: error: ")
    assert message in err
    assert "Traceback" not in err


def test_an_unknown_prompt_can_be_forced(capsys, tmp_path, tiny):
    arguments = ["--period", "Classical", "--composer", "Nobody", "--instrumentation", "Choral", "--force"]
    notagen(capsys, "generate", *arguments, "-c", tiny, "--max-chars", 60, "--out", tmp_path)
    assert (tmp_path / "nobody-choral-0.raw.abc").read_text().startswith("%Classical\n%Nobody\n%Choral\n")


def test_loglik_prints_what_the_loss_gives(capsys, tiny):
    paths = [DATA / "reduced_bach_bwv379.abc", DATA / "reduced_reichardt_wenn_ich_ihn.abc"]
    status, out, _ = notagen(capsys, "loglik", "-c", tiny, *paths)
    assert status == 0
    checkpoint = checkpoints.load(tiny)
    for path, line in zip(paths, map(json.loads, out.splitlines()), strict=True):
        patches = encode_training(path.read_text())[:64]
        assert line["file"] == str(path)
        assert line["patches"] == len(patches)
        assert line["chars"] == np.count_nonzero(patches[1:])
        assert line["nll"] == pytest.approx(
            float(nll(checkpoint.config, checkpoint.params, patches[None])), rel=1e-5
        )
        assert line["logp"] == pytest.approx(-line["nll"] * line["chars"], rel=1e-6)
        assert line["window"] == ("whole" if len(encode_training(path.read_text())) <= 64 else "head")
        assert math.isclose(line["nll"], math.log(128), rel_tol=0.05)


def test_loglik_with_or_without_stream_headers(capsys, tmp_path, tiny):
    plain = DATA / "reduced_bach_bwv379.abc"
    lines = plain.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "[V:" in line)
    last = len(lines) - 1 - first
    headed = [f"[r:{i}/{last - i}]{line}" for i, line in enumerate(lines[first:])]
    with_headers = tmp_path / "headed.abc"
    with_headers.write_text("\n".join(lines[:first] + headed) + "\n")
    _, out, _ = notagen(capsys, "loglik", "-c", tiny, plain, with_headers)
    first_line, second_line = (json.loads(line) for line in out.splitlines())
    assert first_line["logp"] == second_line["logp"]


def test_loglik_names_each_bad_file_and_scores_the_rest(capsys, tmp_path, tiny):
    bad = {
        "empty.abc": b"",
        "latin.abc": "T:Für Elise\n[V:1]A|\n".encode(),
        "bytes.abc": b"\xff\xfe",
        "headers.abc": b"L:1/8\nK:C\n",
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in bad] + [DATA / "reduced_bach_bwv379.abc", tmp_path / "missing.abc"]
    status, out, err = notagen(capsys, "loglik", "-c", tiny, *files)
    assert status == 1
    assert len(out.splitlines()) == 1
    assert "latin.abc: line 1: character 'ü' is not ASCII" in err
    assert "headers.abc: no tune body" in err
    for name in [*bad, "missing.abc"]:
        assert name in err
    assert "5 of 6 files could not be scored" in err
