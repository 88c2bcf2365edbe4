"""Checkpoints in memory and as converted directories: names, labels, refusals."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from notagen_jax import checkpoints
from notagen_jax.checkpoints import directory, names
from notagen_jax.checkpoints.tensor_file import TensorFile
from notagen_jax.cli import convert
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.model import init_params

CONFIG = ModelConfig(64, 2, 1, 24)
LABELS = (
    Prompt("Baroque", "Bach, Johann Sebastian", "Choral"),
    Prompt("Romantic", "Schubert, Franz", "Art Song"),
)


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(CONFIG)}
    return names.stack_params(CONFIG, lambda name: rng.normal(size=shapes[name]))


@pytest.fixture
def saved(tmp_path: Path, params: dict[str, Any]) -> Path:
    directory.save(tmp_path / "model", CONFIG, params, labels=LABELS)
    return tmp_path / "model"


def assert_same(found: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_tree_is_the_model_s(params: dict[str, Any]):
    model = jax.eval_shape(lambda key: init_params(CONFIG, key), jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(lambda leaf: leaf.shape, model)


def test_official_names_and_layouts(saved: Path, params: dict[str, Any]):
    tensors = load_file(saved / "model.safetensors")
    embedding = tensors["patch_level_decoder.patch_embedding.weight"]
    assert embedding.shape == (64, 2048)
    # One-hot of character c at place i is column 128 i + c.
    np.testing.assert_array_equal(embedding[:, 128 * 3 + 65], params["patch_decoder"]["table"][128 * 3 + 65])
    blocks = params["patch_decoder"]["stack"]["blocks"]
    np.testing.assert_array_equal(
        tensors["patch_level_decoder.base.h.1.attn.c_attn.weight"], blocks["qkv"]["kernel"][1]
    )
    np.testing.assert_array_equal(
        tensors["patch_level_decoder.base.h.0.mlp.c_proj.bias"], blocks["mlp_out"]["bias"][0]
    )
    np.testing.assert_array_equal(
        tensors["char_level_decoder.base.lm_head.weight"], params["char_decoder"]["wte"]
    )
    assert tensors["char_level_decoder.base.transformer.wpe.weight"].shape == (17, 64)
    assert (tensors["patch_level_decoder.base.wte.weight"] == np.zeros((1, 64))).all()
    assert len(tensors) == len(names.official_tensors(CONFIG)) == 2 + 2 + 12 * 3 + 2 + 2 + 2 + 1


def test_parameters_of_other_sizes_are_not_saved(tmp_path: Path, params: dict[str, Any]):
    with pytest.raises(NotaGenError, match=r"parameters do not fit.*blocks/ln_1/scale is \(2, 64\)"):
        directory.save(tmp_path / "x", CONFIG.replace(patch_layers=3), params)
    assert not list(tmp_path.iterdir())


def test_directory_round_trip(saved: Path, params: dict[str, Any]):
    loaded = checkpoints.load(saved)
    assert loaded.config == CONFIG
    assert loaded.labels == LABELS
    assert loaded.source == saved
    assert_same(loaded.params, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {np.dtype(np.float32)}
    assert_same(checkpoints.load(saved / "model.safetensors").params, params)


def test_bfloat16_on_disk_loads_as_float32(tmp_path: Path, params: dict[str, Any]):
    directory.save(tmp_path / "half", CONFIG, params, dtype="bfloat16")
    loaded = checkpoints.load(tmp_path / "half")
    assert loaded.labels is None
    expected = jax.tree.map(lambda leaf: np.asarray(jax.numpy.asarray(leaf, "bfloat16"), np.float32), params)
    assert_same(loaded.params, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {np.dtype(np.float32)}
    with safe_open(tmp_path / "half" / "model.safetensors", framework="np") as tensors:
        assert tensors.get_slice("char_level_decoder.base.lm_head.weight").get_dtype() == "BF16"


def test_mapped_and_read_tensors_are_the_same(saved: Path):
    tensors = TensorFile(saved / "model.safetensors")
    for name, shape in tensors.shapes.items():
        assert tensors.map(name).shape == tensors.read(name).shape == shape
        np.testing.assert_array_equal(tensors.map(name), tensors.read(name))


def test_a_checkpoint_is_replaced_whole_and_foreign_files_stay(saved: Path, params: dict[str, Any]):
    (saved / "MODEL_CARD.md").write_text("mine")
    changed = jax.tree.map(lambda leaf: leaf + 1, params)
    directory.save(saved, CONFIG, changed)
    assert_same(checkpoints.load(saved).params, changed)
    assert sorted(file.name for file in saved.iterdir()) == [
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
    ]
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_a_folder_of_other_files_needs_force(tmp_path: Path, params: dict[str, Any]):
    (tmp_path / "notes.txt").write_text("mine")
    target = tmp_path
    with pytest.raises(NotaGenError, match=r"not empty and not a checkpoint.*--force"):
        directory.save(target, CONFIG, params)
    directory.save(target, CONFIG, params, force=True)
    assert (target / "notes.txt").read_text() == "mine"
    assert checkpoints.load(target).config == CONFIG
    (tmp_path / "empty").mkdir()
    directory.save(tmp_path / "empty", CONFIG, params)
    with pytest.raises(NotaGenError, match="is a file"):
        directory.save(tmp_path / "notes.txt", CONFIG, params)


def test_a_failed_write_leaves_nothing(tmp_path: Path, saved: Path, params: dict[str, Any]):
    def fails(name: str) -> np.ndarray:
        if "ln_f" in name:
            raise NotaGenError("damaged")
        return names.unstack_params(CONFIG, params)(name)

    before = (saved / "model.safetensors").read_bytes()
    stored = checkpoints.StoredCheckpoint(CONFIG, fails, Path("source"))
    for target in (saved, tmp_path / "new"):
        with pytest.raises(NotaGenError, match="damaged"):
            directory.write_directory(target, stored)
    assert (saved / "model.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_no_folder_is_moved_over_another(
    tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """As on Windows, where a folder cannot take the place of another, even of an empty one."""
    replace = os.replace

    def strict(source: Path, target: Path) -> None:
        if os.path.isdir(target):
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", strict)
    target = tmp_path / "model"
    target.mkdir()
    directory.save(target, CONFIG, params)
    (target / "MODEL_CARD.md").write_text("mine")
    (target / "logs").mkdir()
    directory.save(target, CONFIG, params, labels=LABELS)
    assert sorted(os.listdir(target)) == [
        "MODEL_CARD.md",
        "config.json",
        "labels.json",
        "logs",
        "model.safetensors",
    ]
    assert os.listdir(tmp_path) == ["model"]


def test_the_old_checkpoint_returns_when_the_new_one_cannot_be_placed(
    saved: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    replace = os.replace
    before = (saved / "model.safetensors").read_bytes()
    (saved / "MODEL_CARD.md").write_text("mine")
    moves: list[Path] = []

    def second_fails(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) == 2:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(NotaGenError, match=r"model: cannot write \(Access is denied\)"):
        directory.save(saved, CONFIG, jax.tree.map(lambda leaf: leaf + 1, params))
    assert (saved / "model.safetensors").read_bytes() == before
    assert (saved / "MODEL_CARD.md").read_text() == "mine"
    assert os.listdir(saved.parent) == ["model"]


def test_text_files_have_plain_line_ends(
    tmp_path: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """Also where the system's own line end is another: text mode would ask it."""
    open_text = io.open

    def as_windows(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "b" not in mode and "w" in mode:
            options["newline"] = "\r\n"
            rest = rest[:2]
        return open_text(file, mode, *rest, **options)

    monkeypatch.setattr(io, "open", as_windows)
    directory.save(tmp_path / "model", CONFIG, params, labels=LABELS)
    for name in ("config.json", "labels.json"):
        content = (tmp_path / "model" / name).read_bytes()
        assert content.endswith(b"\n")
        assert b"\r" not in content


def damage(saved: Path, file: str, change: Any) -> None:
    path = saved / file
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.safetensors", lambda data: data[:-100], "not a whole safetensors file"),
        ("model.safetensors", lambda data: b"", "not a whole safetensors file"),
        ("model.safetensors", lambda data: b"<html>" + data, "not a whole safetensors file"),
        ("config.json", lambda data: data[:20], "not a JSON file"),
        (
            "config.json",
            lambda data: data.replace(b'"patch_layers": 2', b'"patch_layers": 3'),
            "patch_layers is 3",
        ),
        ("config.json", lambda data: data.replace(b"hidden_size", b"n_embd"), "unknown fields.*n_embd"),
        ("config.json", lambda data: data.replace(b"64", b"true"), "config.json: .*positive integer"),
        ("config.json", lambda data: b"\xff" + data, "config.json: not UTF-8 text"),
        ("config.json", lambda data: b"[" * 100_000, "config.json: not a JSON file"),
        ("labels.json", lambda data: data[:20], "labels.json: not a JSON file"),
        ("labels.json", lambda data: b"[" * 100_000, "labels.json: not a JSON file"),
        ("labels.json", lambda data: b'[["H\xe4ndel"]]', "labels.json: not UTF-8 text"),
        ("labels.json", lambda data: b'[["Baroque", "Bach"]]', "labels.json: entry 1"),
        ("labels.json", lambda data: '[["Baroque", "Händel", "Choral"]]'.encode(), "labels.json: .*composer"),
        ("labels.json", lambda data: b"{}", "labels.json: expected a list"),
    ],
)
def test_damaged_directories_are_refused(saved: Path, file: str, change: Any, message: str):
    damage(saved, file, change)
    with pytest.raises(NotaGenError, match=message):
        checkpoints.load(saved)


def test_untied_output_is_refused(saved: Path):
    def change(data: bytes) -> bytes:
        return data[:-4] + b"\0\0\x80\x3f"  # the last weight of the last tensor, lm_head

    damage(saved, "model.safetensors", change)
    with pytest.raises(NotaGenError, match=r"lm_head\.weight differs from .*wte\.weight"):
        checkpoints.load(saved)


def test_paths_that_are_no_checkpoint(tmp_path: Path, saved: Path):
    with pytest.raises(NotaGenError, match=r"nowhere: no such file or folder; give an official \.pth"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(NotaGenError, match="neither a converted checkpoint"):
        checkpoints.load(tmp_path)
    with pytest.raises(NotaGenError, match="holds one model, so there is no step 5"):
        checkpoints.load(saved, step=5)
    (saved / "model.safetensors").unlink()
    with pytest.raises(NotaGenError, match="neither a converted checkpoint"):
        checkpoints.load(saved)


def test_training_runs_open_by_run_step_and_best(tmp_path: Path, params: dict[str, Any]):
    import orbax.checkpoint as ocp

    run = tmp_path / "run"
    run.mkdir()
    (run / "model.json").write_text(CONFIG.to_json())
    (run / "labels.json").write_text(json.dumps([["Romantic", "Schubert, Franz", "Art Song"]]))
    with pytest.raises(NotaGenError, match="no checkpoints yet"):
        checkpoints.load(run)
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["held_out"], best_mode="min")
    with ocp.CheckpointManager(run / "checkpoints", options=options) as manager:
        for step, loss in ((10, 2.0), (20, 1.0), (30, 3.0)):
            tree = jax.tree.map(lambda leaf, step=step: jax.numpy.asarray(leaf + step), params)
            items = ocp.args.Composite(
                params=ocp.args.StandardSave(tree),
                optimizer=ocp.args.StandardSave({"mu": tree}),
                position=ocp.args.JsonSave({"rows": 3}),
            )
            manager.save(step, args=items, metrics={"held_out": loss})
    for path, chosen, step in (
        (run, None, 30),
        (run, "best", 20),
        (run, "last", 30),
        (run, 10, 10),
        (run / "checkpoints", "20", 20),
        (run / "checkpoints" / "10", None, 10),
    ):
        loaded = checkpoints.load(path, chosen)
        assert_same(loaded.params, jax.tree.map(lambda leaf, step=step: leaf + np.float32(step), params))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded.params))
        assert loaded.config == CONFIG
        assert loaded.labels == LABELS[1:]
    with pytest.raises(NotaGenError, match="no checkpoint of step 11; there are 10, 20, 30"):
        checkpoints.load(run, 11)
    for file in (run / "checkpoints" / "10" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(NotaGenError, match="cannot read the parameters"):
        checkpoints.load(run, 10)
    shutil.rmtree(run / "checkpoints" / "10" / "params")
    with pytest.raises(NotaGenError, match="no checkpoint of step 10; there are 20, 30"):
        checkpoints.load(run, 10)
    (run / "model.json").write_text(CONFIG.replace(patch_length=25).to_json())
    with pytest.raises(NotaGenError, match=r"patch_decoder/wpe is \(24, 64\), expected \(25, 64\)"):
        checkpoints.load(run)
    (run / "model.json").write_bytes(b"\xff")
    with pytest.raises(NotaGenError, match=r"model\.json: not UTF-8 text"):
        checkpoints.load(run)
    (run / "model.json").write_text(CONFIG.to_json())
    assert convert.run(convert.Convert(run, tmp_path / "out", step="best")) == 0
    assert_same(checkpoints.load(tmp_path / "out").params, checkpoints.load(run, "best").params)


def test_convert_between_directories_keeps_labels(
    saved: Path, params: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    target = saved.parent / "half"
    assert convert.run(convert.Convert(saved, target, dtype="bfloat16")) == 0
    report = capsys.readouterr().out
    assert f"{CONFIG.parameters:,} parameters" in report
    assert "no preset" in report
    half = checkpoints.load(target)
    assert half.labels == LABELS
    # In place: the source is read while its replacement is written.
    assert convert.run(convert.Convert(target, target)) == 0
    assert_same(checkpoints.load(target).params, half.params)
    assert (target / "model.safetensors").stat().st_size > 1.9 * CONFIG.parameters * 2


@pytest.mark.parametrize("labels", [b"[", b"\xff", '[["Baroque", "Händel", "Choral"]]'.encode()])
def test_broken_labels_stop_loading_but_not_converting(
    saved: Path, params: dict[str, Any], labels: bytes, capsys: pytest.CaptureFixture[str]
):
    (saved / "labels.json").write_bytes(labels)
    with pytest.raises(NotaGenError, match=r"labels\.json: "):
        checkpoints.load(saved)
    target = saved.parent / "copy"
    assert convert.run(convert.Convert(saved, target)) == 0
    warning = capsys.readouterr().err
    assert warning.startswith(f"notagen: warning: {saved / 'labels.json'}: ")
    assert warning.endswith("; converted without labels\n")
    assert_same(checkpoints.load(target).params, params)
    assert not (target / "labels.json").exists()
    # A .pth file never holds labels, so there is nothing to warn of.
    assert convert.run(convert.Convert(saved, saved.parent / "copy.pth")) == 0
    assert capsys.readouterr().err == ""
    # In place they would be lost.
    with pytest.raises(NotaGenError, match=r"labels\.json: "):
        convert.run(convert.Convert(saved, saved, dtype="bfloat16"))
    assert (saved / "labels.json").read_bytes() == labels


WITHOUT_EXTRAS = """
import sys
from pathlib import Path
for name in ("torch", "orbax", "orbax.checkpoint"):
    sys.modules[name] = None
from notagen_jax import checkpoints
from notagen_jax.errors import NotaGenError
folder = Path(sys.argv[1])
print(checkpoints.load(folder).config.hidden_size)
(folder / "w.pth").write_bytes(bytes([128]) * 99)
(folder.parent / "model.json").write_text((folder / "config.json").read_text())
(folder.parent / "checkpoints").mkdir()
for path in (folder / "w.pth", folder.parent):
    try:
        checkpoints.load(path)
    except NotaGenError as error:
        print(error)
"""


def test_only_what_needs_an_extra_asks_for_it(saved: Path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, str(saved)], capture_output=True, text=True, check=True
    )
    size, pth, run = done.stdout.splitlines()
    assert size == "64"
    assert 'pip install "notagen-jax[convert]"' in pth
    assert "://" not in pth
    assert 'pip install "notagen-jax[train]"' in run
