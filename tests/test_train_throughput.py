"""The training benchmark: its PyTorch twins compute our loss, its batches are real, its figures add up."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval import train_throughput
from eval.train_batches import batches
from eval.train_throughput import OURS, TrainThroughput
from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.flops import device_peak, train_flops
from notagen_jax.losses import nll
from notagen_jax.model import init_params
from notagen_jax.patches import END_PATCH

TINY = ModelConfig(64, 1, 1, 32, dropout=0.0, attention_dropout=0.0)


def test_batches_without_data_are_real_pieces_that_fill_their_rows():
    first, second = batches((), 2, 2, 300)
    assert first["patches"].shape == (2, 300, 16)
    assert (first["segments"] == 1).all()
    assert not (first["patches"] == END_PATCH).all(-1).any()
    fills = (first["patches"] != 0).sum(-1)
    assert 11 < fills.mean() < 14
    assert (first["patches"][0] != first["patches"][1]).any()
    assert (second["patches"][0] != first["patches"][0]).any()
    with pytest.raises(NotaGenError, match="rows must be at least 1"):
        batches((), 1, 0, 300)


@pytest.mark.parametrize("form", ["official", "tuned"])
def test_each_form_of_the_twin_computes_our_loss_and_learns(form):
    pytest.importorskip("transformers")
    import torch

    from eval.torch_training import trainer, twin

    (batch,) = batches((), 1, 3, 32)
    patches, segments = batch["patches"], batch["segments"]
    patches[1, 20:], segments[1, 20:] = 0, 0
    params = init_params(TINY, jax.random.key(0))
    expected = float(nll(TINY, params, jnp.asarray(patches), jnp.asarray(segments)))
    update = trainer(twin(TINY, form, params), form, "cpu", torch.float32, learning_rate=1e-3)
    losses = [update(patches, segments) for _ in range(3)]
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert losses[2] < losses[0] - 0.1


def test_the_benchmark_prints_what_it_measured(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("transformers")
    monkeypatch.setitem(PRESETS, "mini", TINY.replace(patch_length=64))
    out = tmp_path / "figures.json"
    options = TrainThroughput(
        "mini", length=32, dropout=False, char_chunk=0, torch=("official",), steps=6, rounds=1, json=out
    )
    figures = train_throughput.run(options)
    assert figures == json.loads(out.read_text()) | {"torch": ("official",), "sources": ()}
    ours, official = figures["sides"][OURS], figures["sides"]["PyTorch, official"]
    # The same weights, batches and updates: the same losses, and falling.
    np.testing.assert_allclose(official["losses"], ours["losses"], rtol=1e-5)
    assert ours["losses"][1] < ours["losses"][0] - 0.01
    assert ours["ratio"] == 1.0
    assert official["ratio"] == pytest.approx(official["seconds_per_update"] / ours["seconds_per_update"])
    flops = train_flops(TINY, 32, figures["fill"])
    peak = figures["peak_flops"]
    assert peak >= device_peak(jax.devices()[0], "float32").flops
    assert ours["mfu"] == pytest.approx(ours["patches_per_second"] * sum(flops.values()) / peak)
    assert ours["mfu"] < ours["mfu_all_positions"] < 1
    assert ours["peak_bytes"] > 12 * TINY.parameters  # parameters and AdamW's two moments
    printed = capsys.readouterr().out
    assert f"{ours['patches_per_second']:.1f}" in printed
    assert "measured" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 600}, "the window of mini is 512"),
        ({"rounds": 0}, "at least 1"),
        ({"attention": "cudnn"}, "needs dtype bfloat16"),
    ],
)
def test_what_cannot_be_timed_is_refused(changes, message):
    with pytest.raises(NotaGenError, match=message):
        train_throughput.run(TrainThroughput(model="mini", **changes))
