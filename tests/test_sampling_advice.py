"""What a checkpoint says of how it is best drawn from: read, obeyed, and kept by conversions."""

import json
from pathlib import Path

import jax
import pytest

from notagen_jax import checkpoints
from notagen_jax.checkpoints import Checkpoint
from notagen_jax.cli import main
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.model import init_params
from notagen_jax.sampling import SamplingSettings, settings_for

CONFIG = ModelConfig(64, 1, 1, 16)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A converted checkpoint of random weights without advice."""
    folder = tmp_path_factory.mktemp("plain") / "checkpoint"
    checkpoints.save(folder, CONFIG, init_params(CONFIG, jax.random.key(0)))
    return folder


def advising(folder: Path, plain: Path, text: str) -> Path:
    """A copy of the checkpoint with a `sampling.json` of this text."""
    status(["convert", str(plain), str(folder)])
    (folder / "sampling.json").write_text(text)
    return folder


def status(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def test_without_advice_the_official_settings_hold(tmp_path):
    silent = Checkpoint(CONFIG, {}, tmp_path)
    assert settings_for(silent) == SamplingSettings(top_k=9, top_p=0.9, temperature=1.2)
    assert settings_for(silent, max_chars=7) == SamplingSettings(max_chars=7)


def test_given_settings_go_before_advice(tmp_path):
    advised = Checkpoint(CONFIG, {}, tmp_path, advice={"temperature": 1, "top_k": 5})
    assert settings_for(advised) == SamplingSettings(top_k=5, temperature=1)
    assert settings_for(advised, top_k=3, top_p=0.5) == SamplingSettings(3, 0.5, 1)
    with pytest.raises(NotaGenError, match=r"^top_p must be"):
        settings_for(advised, top_p=7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON file"),
        ("[1]", "expected an object"),
        ('{"temprature": 1}', "expected an object with any of top_k, bar_attempts, top_p, temperature"),
        ('{"top_k": 5.5}', "top_k is 5.5"),
        ('{"bar_attempts": 1.5}', "bar_attempts is 1.5"),
        ('{"bar_attempts": 0}', "1 to 1000"),
        ('{"temperature": "hot"}', "temperature is 'hot'"),
        ('{"top_p": true}', "top_p is True"),
        ('{"temperature": 0}', "above 0"),
        ('{"temperature": NaN}', "above 0"),
        ('{"temperature": 1' + 400 * "0" + "}", "at most 1000"),
        ('{"top_k": 99999999999}', "1 to 128"),
    ],
)
def test_bad_advice_is_named(tmp_path, plain, text, said):
    folder = advising(tmp_path / "advising", plain, text)
    with pytest.raises(NotaGenError, match=r"sampling\.json") as error:
        settings_for(checkpoints.load(folder))
    assert said in str(error.value)
    assert "delete it, and the official settings hold" in str(error.value)


def test_conversions_keep_advice_and_take_that_of_another_model_away(tmp_path, plain):
    first = advising(tmp_path / "first", plain, '{"top_p": 0.8}')
    assert status(["convert", str(first), str(tmp_path / "second")]) == 0
    assert json.loads((tmp_path / "second" / "sampling.json").read_text()) == {"top_p": 0.8}
    assert status(["convert", str(first), str(first), "--dtype", "bfloat16"]) == 0  # in place
    assert checkpoints.load(first).advice == {"top_p": 0.8}
    (first / "MODEL_CARD.md").write_text("its own")
    assert status(["convert", str(plain), str(first)]) == 0
    assert checkpoints.load(first).advice is None
    assert not (first / "sampling.json").exists()
    assert (first / "MODEL_CARD.md").exists()


def test_damaged_advice_does_not_keep_weights_from_a_pth(tmp_path, plain):
    folder = advising(tmp_path / "advising", plain, "{")
    assert status(["convert", str(folder), str(tmp_path / "weights.pth")]) == 0
    (folder / "sampling.json").write_text('{"top_k": 5}')
    (folder / "labels.json").write_text("{")
    assert status(["convert", str(folder), str(tmp_path / "again")]) == 0
    assert checkpoints.load(tmp_path / "again").advice == {"top_k": 5}


def test_generate_follows_the_advice(tmp_path, plain):
    folder = advising(tmp_path / "advising", plain, '{"top_k": 1}')
    (tmp_path / "piece.abc").write_text("%Baroque\n%A\n%Solo\n%end\nL:1/8\n")

    def drawn(*options: str) -> list[str]:
        out = tmp_path / f"out{len(options)}"
        command = ["generate", "-c", str(folder), "--prefix", str(tmp_path / "piece.abc")]
        status([*command, "-n", "2", "--max-chars", "100", "--formats", "abc", "-o", str(out), *options])
        return [(out / f"piece-{seed}.raw.abc").read_text() for seed in (0, 1)]

    first, second = drawn()
    assert first == second  # the likeliest character each time, whatever the seed
    (record, _) = json.loads((tmp_path / "out0" / "report.json").read_text())
    assert (record["top_k"], record["top_p"], record["temperature"]) == (1, 0.9, 1.2)
    assert (record["bar_attempts"], record["bars_redrawn"]) == (1, 0)
    first, second = drawn("--top-k", "9")
    assert first != second
    drawn("--bar-attempts", "2", "--seed", "0")
    (record, _) = json.loads((tmp_path / "out4" / "report.json").read_text())
    assert record["bar_attempts"] == 2
