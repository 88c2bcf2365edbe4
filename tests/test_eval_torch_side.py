"""Comparisons with PyTorch: one clear line where it is missing, before any work is done."""

import sys

import pytest

from eval import equal_training
from eval.torch_side import torch_device
from notagen_jax.errors import NotaGenError


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_missing_library_is_named_with_the_remedy(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        NotaGenError, match=rf"\(import of {missing} .*\): pip install torch transformers, or go$"
    ):
        torch_device(otherwise=", or go")


def test_equal_training_says_so_before_it_trains(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NotaGenError, match="needs PyTorch"):
        equal_training.run(equal_training.EqualTraining(data=str(tmp_path), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_device_asked_for_goes_first():
    assert torch_device("cuda:3") == "cuda:3"
    assert torch_device() in ("cpu", "cuda")
