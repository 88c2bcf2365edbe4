"""Tiny CLaMP 2 and M3 models in PyTorch for the tests, and the interleaved pieces that they read."""

from pathlib import Path
from typing import Any

from notagen_jax.clamp2.config import Clamp2Config
from notagen_jax.notation.restore import restore_rests
from notagen_jax.score import read_piece

DATA = Path(__file__).parent / "data"

TINY = Clamp2Config(
    hidden_size=64,
    music_layers=2,
    intermediate_size=192,
    patch_length=40,
    feature_size=40,
    text_vocabulary=120,
    text_hidden_size=64,
    text_layers=2,
    text_intermediate_size=96,
    text_positions=34,
    text_heads=1,
    text_length=32,
    dropout=0.0,
    attention_dropout=0.0,
)
TINY_M3 = Clamp2Config(
    hidden_size=64,
    music_layers=2,
    intermediate_size=256,
    patch_length=40,
    decoder_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
)


def pieces() -> list[str]:
    """Interleaved texts: shorter than a segment of the tiny models, of several, and of a whole one more."""
    restored = restore_rests((DATA / "reduced_bach_bwv379.abc").read_text(encoding="ascii"))
    song = read_piece(DATA / "duchambge_ronde.mxl").interleaved
    return [
        (DATA / "notation_reichardt_nachtlied.abc").read_text(encoding="ascii")[:400] + "\n",
        restored,
        song,
    ]


def torch_clamp2(config: Clamp2Config = TINY, seed: int = 0) -> Any:
    """A `TorchClamp2` whose every parameter, norms and biases included, is away from its first value."""
    import torch

    from eval.clamp2_reference import TorchClamp2

    torch.manual_seed(seed)
    return _shaken(TorchClamp2(config))


def torch_m3(config: Clamp2Config = TINY_M3, seed: int = 0) -> Any:
    """A `TorchM3` as `torch_clamp2`."""
    import torch

    from eval.clamp2_reference import TorchM3

    torch.manual_seed(seed)
    return _shaken(TorchM3(config))


def _shaken(model: Any) -> Any:
    import torch

    with torch.no_grad():
        # Enough that different pieces have different features: the contrastive loss compares them, and
        # where they are alike its gradient is a difference of equal numbers.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()
