"""Whole runs at tiny size: learning, stopping, resuming, and from built data to a scored piece."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from notagen_jax import checkpoints
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import LoraConfig
from tests.train_runs import MODEL, configuration, stage
from train import loop
from train.command import main
from train.config import DataConfig, DeviceConfig, OptimizerConfig, RunConfig, SampleConfig
from train.configs import FINETUNE, PRETRAIN
from train.likelihood import train_on_pieces
from train.step import LossSums

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every scalar in the event files of a folder, by name."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            # Length, its checksum, an event, its checksum.
            end = 12 + int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12:end])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            content = content[end + 4 :]
    return found


def test_a_run_learns_and_shows_it(tmp_path):
    config = configuration(tmp_path, steps=30, evaluate_every=10)
    sampled = []

    def samples(step, params, frozen, stopped):
        assert not stopped()
        # The checkpoint of this step is on its way before time goes into pieces.
        sampled.append((step, float(params["char_decoder"]["wte"].sum())))
        return {"aligned": 0.25}

    losses = loop.run(dataclasses.replace(stage(config), samples=samples, flops=lambda _: 1e6), config)
    assert losses["held_out"] < 0.6 * math.log(128)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    held_out = [record["held_out"] for record in records if record["kind"] == "held_out"]
    assert held_out == sorted(held_out, reverse=True)
    assert [step for step, _ in sampled] == [10, 20, 30]
    assert len({total for _, total in sampled}) == len(held_out) == 3

    shown = scalars(tmp_path / "tensorboard")
    trained = [record for record in records if record["kind"] == "train"]
    for name in ("loss", "bits_per_char", "grad_norm", "update_norm", "param_norm", "learning_rate",
                 "patches_per_second", "data_wait", "flops_per_second", "mfu"):  # fmt: skip
        assert [step for step, _ in shown[f"train/{name}"]] == list(range(1, 31))
        expected = [record[name] for record in trained]
        np.testing.assert_allclose([value for _, value in shown[f"train/{name}"]], expected, rtol=1e-6)
    assert [value for _, value in shown["train/learning_rate"]][:3] == pytest.approx([2.5e-3, 5e-3, 5e-3])
    np.testing.assert_allclose([value for _, value in shown["held_out/held_out"]], held_out, rtol=1e-6)
    assert shown["samples/aligned"] == [(step, 0.25) for step, _ in sampled]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Parameters of a run of six steps that nobody stopped."""
    config = configuration(tmp_path_factory.mktemp("straight"))
    loop.run(stage(config), config)
    return checkpoints.load(config.run, step=6).params


@pytest.mark.parametrize(("stop_at", "stopped_at"), [(1, 2), (3, 3), (4, 5)])
def test_a_stopped_run_goes_on_to_the_same_parameters(tmp_path, undisturbed, stop_at, stopped_at):
    stopped = configuration(tmp_path / "stopped")
    loop.run(stage(stopped, stop_at), stopped)
    # An update that takes the request along is read when the next one is under way, or when its
    # step is evaluated.
    assert checkpoints.load(tmp_path / "stopped").source.name == str(stopped_at)
    # Other first parameters show that the resumed run takes none of them.
    losses = loop.run(stage(stopped, seed=1), stopped)
    assert set(losses) == {"made-up", "made-up/bits_per_char", "held_out", "held_out/bits_per_char"}
    assert losses["held_out/bits_per_char"] == pytest.approx(losses["held_out"] / math.log(2))
    jax.tree.map(
        np.testing.assert_array_equal, checkpoints.load(tmp_path / "stopped", step=6).params, undisturbed
    )


def test_best_and_last_checkpoints_are_kept(tmp_path):
    # The more is learnt of music, the less likely are these characters.
    config = configuration(tmp_path, steps=8, evaluate_every=2)
    noise = np.random.default_rng(0).integers(3, 32, (1, 64, 16)).astype(np.uint8)
    held_out = {"noise": [{"patches": noise, "segments": np.ones((1, 64), np.int32)}]}
    loop.run(dataclasses.replace(stage(config), held_out=held_out), config)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    held_out = {r["step"]: r["held_out"] for r in records if r["kind"] == "held_out"}
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    best = min(held_out, key=held_out.__getitem__)
    assert kept == {best, 6, 8}
    assert best == 2
    assert checkpoints.load(tmp_path, step="best").source.name == str(best)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda total: total * np.nan, "the loss is nan"),
        # A root has no slope at 0: the loss is 0, its gradient is not finite.
        (lambda total: jax.numpy.sqrt(total - total), "the norm of the gradient is (nan|inf)"),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path, make, message):
    config = configuration(tmp_path)
    broken = dataclasses.replace(
        stage(config),
        loss=lambda params, frozen, batch, key: LossSums(
            make(params["char_decoder"]["wte"].sum()), jax.numpy.ones(()), {}
        ),
    )
    with pytest.raises(NotaGenError, match=f"step 1: {message}"):
        loop.run(broken, config)
    report = json.loads((tmp_path / "not-finite-1.json").read_text())
    assert report["pieces"] == broken.train.names(0)
    assert report["pieces"]
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()]


def test_a_run_folder_of_another_model_is_refused(tmp_path):
    config = configuration(tmp_path, steps=1)
    loop.run(stage(config), config)
    other = dataclasses.replace(config, model=MODEL.replace(patch_layers=2))
    with pytest.raises(NotaGenError, match="patch_layers"):
        loop.run(stage(other), other)


def test_other_data_is_refused_on_resume(tmp_path):
    config = configuration(tmp_path, steps=1)
    loop.run(stage(config), config)
    other = dataclasses.replace(config, steps=2, seed=5)
    with pytest.raises(NotaGenError, match="other data settings or another seed"):
        loop.run(stage(other), other)


def test_a_damaged_checkpoint_is_named(tmp_path):
    config = configuration(tmp_path, steps=1)
    loop.run(stage(config), config)
    for path in (tmp_path / "checkpoints" / "1" / "optimizer").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    longer = dataclasses.replace(config, steps=2)
    with pytest.raises(NotaGenError, match=r"checkpoints/1: cannot go on from this checkpoint"):
        loop.run(stage(longer), longer)


def test_every_setting_is_read_by_some_code():
    sources = [
        path.read_text() for folder in ("train", "notagen_jax") for path in (ROOT / folder).rglob("*.py")
    ]
    kinds = (RunConfig, DataConfig, OptimizerConfig, DeviceConfig, SampleConfig, LoraConfig, ModelConfig)
    for kind in kinds:
        for field in dataclasses.fields(kind):
            owner = "config|data|optimizer|devices|samples|lora|adapters|model|self"
            reads = rf"\b({owner})\.{field.name}\b|\"{field.name}\""
            assert any(re.search(reads, source) for source in sources), f"{kind.__name__}.{field.name}"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of the checkout as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


TINY_RUN = [
    "--model.hidden-size",
    "64",
    "--model.patch-layers",
    "1",
    "--model.char-layers",
    "1",
    "--model.patch-length",
    "128",
    "--data.weights",
    "1",
    "--data.length",
    "128",
    "--steps",
    "2",
    "--log-every",
    "1",
    "--samples.count",
    "0",
    # One program for pre-training, fine-tuning and more steps of it.
    "--model.char-chunk",
    "0",
    "--optimizer.decay",
    "constant",
]


def test_from_scores_to_a_fine_tuned_model(tmp_path, monkeypatch, capsys):
    def here(experiments, *arguments: object) -> tuple[int, str]:
        """Exit status and standard error of the same in this process, which is started already."""
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        status = 0
        try:
            main(experiments, train_on_pieces, "")
        except SystemExit as stop:
            status = int(stop.code)
        return status, capsys.readouterr().err

    songs = tmp_path / "songs"
    songs.mkdir()
    shutil.copy(DATA / "duchambge_ronde.mxl", songs)
    (songs / "metadata.csv").write_text(
        'path,composer,period,instrumentation\nduchambge_ronde.mxl,"Duchambge, Pauline",Romantic,Art Song\n'
    )
    built = command(
        "tfds_builders.build", "--config", "folder", "--source", songs, "--data-dir", tmp_path / "data"
    )
    assert built.returncode == 0, built.stderr
    source = tmp_path / "data/notagen_classical/folder/2.0.0"

    status, said = here(PRETRAIN, "mini", "--run", tmp_path / "a", "--data.sources", source, *TINY_RUN)
    assert status == 0, said
    assert "2/2" in said
    finetune = command(
        "train.finetune", "mini", "--run", tmp_path / "b", "--init", tmp_path / "a",
        "--data.sources", source, *TINY_RUN, "--samples.count", "1", "--samples.patches", "2",
    )  # fmt: skip
    assert finetune.returncode == 0, finetune.stderr
    before, after = checkpoints.load(tmp_path / "a"), checkpoints.load(tmp_path / "b")
    assert after.config.patch_length == before.config.patch_length == 128
    assert [label.composer for label in after.labels] == ["Duchambge, Pauline"]
    assert "of the samples:  finished 0%" in finetune.stderr
    assert (tmp_path / "b/samples/2.jsonl").read_text().count("Duchambge") == 1

    shutil.rmtree(tmp_path / "a")
    status, said = here(
        FINETUNE, "mini", "--run", tmp_path / "b", "--init", tmp_path / "a",
        "--data.sources", source, *TINY_RUN, "--steps", "3",
    )  # fmt: skip
    assert status == 0, said
    assert "step 2 of 3" in said

    status, said = here(FINETUNE, "mini", "--data.sources", tmp_path, *TINY_RUN, "--run", tmp_path / "c")
    assert status == 1
    assert "no built data set here" in said
    assert len(said.strip().splitlines()) == 1
    status, said = here(PRETRAIN, "mini", "--data.sources", source, "--learning-rte", "1")
    assert status == 2
    assert "--learning-rte" in said
