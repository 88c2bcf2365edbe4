"""What a checkpoint says of how to draw from it."""

import jax
import pytest

from notagen_jax import checkpoints
from notagen_jax.cli import main
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.model import init_params
from notagen_jax.sampling import SamplingSettings, settings_for


def test_without_advice_the_official_settings_hold(tmp_path):
    assert settings_for(tmp_path) == SamplingSettings()
    assert settings_for(tmp_path / "weights.pth", max_chars=7) == SamplingSettings(max_chars=7)


def test_given_settings_go_before_advice(tmp_path):
    (tmp_path / "sampling.json").write_text('{"temperature": 1, "top_k": 5}')
    assert settings_for(tmp_path) == SamplingSettings(top_k=5, temperature=1)
    assert settings_for(tmp_path, top_k=3, top_p=0.5) == SamplingSettings(3, 0.5, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a JSON file"),
        ("[1]", "expected an object"),
        ('{"temprature": 1}', "expected an object with any of top_k, top_p, temperature"),
        ('{"top_k": 5.5}', "top_k is 5.5"),
        ('{"temperature": "hot"}', "temperature is 'hot'"),
        ('{"top_p": true}', "top_p is True"),
        ('{"temperature": 0}', "above 0"),
        ('{"temperature": NaN}', "above 0"),
    ],
)
def test_bad_advice_is_named(tmp_path, text, said):
    (tmp_path / "sampling.json").write_text(text)
    with pytest.raises(NotaGenError, match=r"sampling\.json") as error:
        settings_for(tmp_path)
    assert said in str(error.value)
    assert "delete it" in str(error.value)


def test_generate_follows_the_advice_and_convert_keeps_it(capsys, tmp_path):
    config = ModelConfig(64, 1, 1, 16)
    checkpoints.save(tmp_path / "first", config, init_params(config, jax.random.key(0)))
    (tmp_path / "first" / "sampling.json").write_text('{"top_k": 1}')
    with pytest.raises(SystemExit):
        main(["convert", str(tmp_path / "first"), str(tmp_path / "second")])
    (tmp_path / "piece.abc").write_text("%Baroque\n%A\n%Solo\n%end\nL:1/8\n")

    def drawn(*options: str) -> list[str]:
        out = tmp_path / f"out{len(options)}"
        command = ["generate", "-c", str(tmp_path / "second"), "--prefix", str(tmp_path / "piece.abc")]
        with pytest.raises(SystemExit):
            main([*command, "-n", "2", "--max-chars", "100", "--formats", "abc", "-o", str(out), *options])
        return [(out / f"piece-{seed}.raw.abc").read_text() for seed in (0, 1)]

    first, second = drawn()
    assert first == second  # the likeliest character each time, whatever the seed
    first, second = drawn("--top-k", "9")
    assert first != second
    capsys.readouterr()
