"""The model configuration: what its fields may hold, and its files."""

import json
from pathlib import Path
from typing import Any

import pytest

from notagen_jax.clamp2.config import OFFICIAL, Clamp2Config
from notagen_jax.config import PRESETS, ModelConfig, read_config
from notagen_jax.errors import NotaGenError

CONFIG = ModelConfig(64, 2, 1, 24)


@pytest.mark.parametrize(
    ("field", "value", "demand"),
    [
        ("hidden_size", True, "a positive integer, got True"),
        ("hidden_size", 64.0, "a positive integer, got 64.0"),
        ("hidden_size", 65, "a multiple of 64"),
        ("patch_layers", "2", "a positive integer, got '2'"),
        ("patch_length", 0, "a positive integer, got 0"),
        ("char_layers", None, "a positive integer, got None"),
        ("unroll", False, "a positive integer"),
        ("unroll", 1_000_000_000, "at most 1024"),
        ("dropout", "high", r"a number in \[0, 1\), got 'high'"),
        ("dropout", None, r"a number in \[0, 1\), got None"),
        ("dropout", float("nan"), r"a number in \[0, 1\)"),
        ("attention_dropout", True, r"a number in \[0, 1\), got True"),
        ("attention_dropout", [0.1], r"a number in \[0, 1\)"),
        ("remat", "yes", "true or false, got 'yes'"),
        ("remat", 1, "true or false, got 1"),
        ("dtype", ["float32"], "float32 or bfloat16"),
        ("dtype", "float16", "float32 or bfloat16"),
        ("attention", {}, "xla or cudnn"),
    ],
)
def test_a_field_of_another_type_or_range_is_refused(tmp_path: Path, field: str, value: Any, demand: str):
    with pytest.raises(NotaGenError, match=f"^model configuration: {field} must be {demand}"):
        CONFIG.replace(**{field: value})
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(CONFIG.to_json()), field: value}))
    with pytest.raises(NotaGenError, match=rf"config\.json: .*{field} must be {demand}.*; correct it"):
        read_config(path)


def test_a_huge_value_is_shortened_in_the_message():
    for value in ("x" * 100_000, list(range(100_000))):
        with pytest.raises(NotaGenError) as caught:
            CONFIG.replace(dropout=value)
        assert len(str(caught.value)) < 200


def test_every_preset_survives_its_file(tmp_path: Path):
    for preset in PRESETS.values():
        config = preset.replace(dropout=0, remat=True, unroll=4, dtype="bfloat16")
        (tmp_path / "config.json").write_text(config.to_json())
        assert read_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "not a JSON file"),
        (b'{"dropout": ' * 100_000, "not a JSON file"),
        (b'{"hidden_size": 64', "not a JSON file"),
        (b'{"hidden_size": "H\xe4ndel"}', "not UTF-8 text"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 text"),
        (b"", "not a JSON file"),
        (b"[1, 2]", "expected a JSON object"),
        (
            b'{"hidden_size": 64, "n_embd": 64}',
            "not a model configuration.*n_embd.*missing fields.*patch_layers",
        ),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(NotaGenError, match=rf"model\.json: {message}.*; put the original file back"):
        read_config(tmp_path / "model.json")


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path):
    (tmp_path / "config.json").mkdir()
    for name in ("config.json", "nowhere.json"):
        with pytest.raises(NotaGenError, match=rf"{name}: cannot read \(.*put the original file back"):
            read_config(tmp_path / name)


@pytest.mark.parametrize(
    ("field", "value", "demand"),
    [
        ("hidden_size", 65, "hidden_size must be a multiple of 64, got 65"),
        ("music_layers", 0, "music_layers must be a positive integer, got 0"),
        ("text_layers", -1, "text_layers must be a non-negative integer, got -1"),
        ("patch_size", 3, "patch_size must be at least 4, got 3"),
        ("text_norm_epsilon", 1, r"text_norm_epsilon must be a number in \[0, 1\), got 1"),
        ("dropout", True, r"dropout must be a number in \[0, 1\), got True"),
        ("remat", 1, "remat must be true or false, got 1"),
        ("dtype", "float16", "dtype must be float32 or bfloat16, got 'float16'"),
        ("unroll", 0, "unroll must be a positive integer, got 0"),
        ("unroll", 1025, "unroll must be at most 1024, got 1025"),
        ("decoder_layers", 3, "M3 .* has neither projections nor a text tower"),
        ("feature_size", 0, "CLaMP 2 .* needs feature_size and all text sizes"),
        ("text_heads", 5, "text_hidden_size must be a multiple of text_heads"),
        ("text_length", 513, "text_length must be at most text_positions - 2, got 513"),
    ],
)
def test_a_clamp2_configuration_states_its_demands(field: str, value: Any, demand: str):
    with pytest.raises(NotaGenError, match=f"^CLaMP 2 configuration: {demand}"):
        OFFICIAL.replace(**{field: value})
    fields = {**json.loads(OFFICIAL.to_json()), field: value}
    with pytest.raises(NotaGenError, match=rf"^a\.json: CLaMP 2 configuration: {demand}.*; correct it"):
        Clamp2Config.from_json(json.dumps(fields), "a.json")


def test_a_clamp2_file_states_every_size():
    assert Clamp2Config.from_json(OFFICIAL.to_json(), "a.json") == OFFICIAL
    fields = json.loads(OFFICIAL.to_json())
    del fields["text_layers"]
    with pytest.raises(NotaGenError, match=r"a\.json: .*missing fields \['text_layers'\]"):
        Clamp2Config.from_json(json.dumps(fields), "a.json")
