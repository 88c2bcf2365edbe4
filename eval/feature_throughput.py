"""Pieces a second of CLaMP 2's music features, beside the official procedure in PyTorch.

    python -m eval.throughput features                     # the published size, random weights
    python -m eval.throughput features --clamp2 judge scores/

Both sides compute the features of the same pieces with the same weights in the same process, in
turns; the official procedure takes one piece at a time, pads it to 512 patches and multiplies
one-hots. Texts are encoded by both; reading scores is not timed.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from eval.torch_side import give_weights, torch_device
from notagen_jax import clamp2
from notagen_jax.clamp2 import OFFICIAL, m3_patches
from notagen_jax.clamp2.features import Clamp2
from notagen_jax.clamp2.model import init_params
from notagen_jax.clamp2.names import official_tensors
from notagen_jax.clamp2.score_text import interleaved_texts
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.score.listing import find_scores

PIECES = Path(__file__).parent.parent / "tests" / "data"


@dataclasses.dataclass(frozen=True)
class FeatureThroughput:
    """Pieces a second of our music features and of the official procedure, and their ratio."""

    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Scores, or folders of them; by default the pieces in tests/data."""
    clamp2: str | None = None
    """Weights; by default random ones of the published size (a text tower of two tokens)."""
    rounds: int = 3
    """How often both sides are timed in turn; the figures are of all rounds together."""
    official_pieces: int = 12
    """Pieces timed of the official procedure in each round, spread evenly over all."""
    batch_size: int | None = None
    """Segments that our side computes together; by default of 256 patches on a CPU, 64 elsewhere."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of our side."""
    torch_device: str | None = None
    """Device of the official side: by default a GPU where PyTorch sees one."""
    json: Path | None = None
    """Write the figures to this file too."""


def run(options: FeatureThroughput) -> dict[str, Any]:
    """Time both sides, print a table and return its figures; raises `NotaGenError`."""
    if options.rounds < 1 or options.official_pieces < 1:
        raise NotaGenError("--rounds and --official-pieces must be at least 1")
    texts = read_texts(options.inputs or (PIECES,))
    enable_compilation_cache()
    model = load_model(options)
    counts = [len(m3_patches.encode(text, model.config.patch_size)) for text in texts]
    official = official_procedure(options, model)
    sampled = [
        texts[i] for i in np.linspace(0, len(texts) - 1, min(options.official_pieces, len(texts))).astype(int)
    ]

    def ours() -> np.ndarray:
        return model.music_features(texts, batch_size=options.batch_size)

    began = time.perf_counter()
    features = ours()
    start = time.perf_counter() - began
    official(sampled[:1])
    seconds: dict[str, list[float]] = {"ours": [], "official": []}
    for _ in range(options.rounds):
        began = time.perf_counter()
        expected = official(sampled)
        seconds["official"].append((time.perf_counter() - began) / len(sampled))
        began = time.perf_counter()
        ours()
        seconds["ours"].append((time.perf_counter() - began) / len(texts))
    known = {text: feature for text, feature in zip(texts, features, strict=True)}
    error = max(
        float(np.abs(known[text] - feature).max() / np.abs(feature).max())
        for text, feature in zip(sampled, expected, strict=True)
    )
    rates = {side: 1 / float(np.mean(spent)) for side, spent in seconds.items()}
    figures = {
        "model": options.clamp2 or "published size, random weights",
        "pieces": len(texts),
        "patches": {"median": int(np.median(counts)), "most": max(counts)},
        "dtype": options.dtype,
        "device": jax.devices()[0].device_kind,
        "pieces_per_second": rates,
        "ratio": rates["ours"] / rates["official"],
        "ratio_by_round": [o / u for o, u in zip(seconds["official"], seconds["ours"], strict=True)],
        "first_call_seconds": start,
        "relative_error": error,
    }
    show(figures)
    if options.json is not None:
        write_atomic(options.json, json.dumps(figures, indent=1) + "\n")
    return figures


def read_texts(inputs: tuple[Path, ...]) -> list[str]:
    """Interleaved texts of scores; raises `NotaGenError` on one that cannot be read."""
    texts = []
    for path in find_scores(inputs):
        for found in interleaved_texts(path):
            if isinstance(found, NotaGenError):
                raise found
            texts.append(found[1])
    return texts


def load_model(options: FeatureThroughput) -> Clamp2:
    """The weights to time, with the arithmetic asked for."""
    if options.clamp2 is not None:
        model = clamp2.load(options.clamp2)
        if not model.config.has_text:
            raise NotaGenError(f"{options.clamp2}: M3 alone has no features to compare; give CLaMP 2")
        return dataclasses.replace(model, config=model.config.replace(dtype=options.dtype))
    config = OFFICIAL.replace(
        text_vocabulary=4, text_layers=1, text_hidden_size=64, text_intermediate_size=64, text_heads=1
    )
    params = jax.device_get(jax.jit(init_params, static_argnums=0)(config, jax.random.key(0)))
    return Clamp2(config.replace(dtype=options.dtype), params, Path("random weights"))


def official_procedure(options: FeatureThroughput, model: Clamp2) -> Callable[[list[str]], list[np.ndarray]]:
    """The official procedure with the same weights, as a function of texts."""
    device = torch_device(options.torch_device)
    from eval.clamp2_reference import TorchClamp2

    config = model.config.replace(text_heads=model.config.text_heads or 1)
    reference = TorchClamp2(config)
    give_weights(reference, official_tensors(config), model.params)
    reference = reference.to(device).eval()
    return lambda texts: [
        reference.music_feature(m3_patches.encode(text, config.patch_size)) for text in texts
    ]


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    patches = figures["patches"]
    title = (
        f"{figures['model']}; {figures['pieces']} pieces of {patches['median']} patches (median) to "
        f"{patches['most']}, {figures['dtype']}, {figures['device']}"
    )
    table = Table(title=title)
    for column in ("features", "pieces/s", "ratio", "ratio by round", "first call (s)"):
        table.add_column(column, justify="left" if column == "features" else "right")
    rates = figures["pieces_per_second"]
    table.add_row("PyTorch, official procedure", f"{rates['official']:.2f}", "1.0", "", "")
    spread = f"{min(figures['ratio_by_round']):.1f} … {max(figures['ratio_by_round']):.1f}"
    table.add_row(
        "notagen-jax",
        f"{rates['ours']:.2f}",
        f"{figures['ratio']:.1f}",
        spread,
        f"{figures['first_call_seconds']:.1f}",
    )
    Console().print(table)
    print(f"largest relative difference of the features: {figures['relative_error']:.1e}")
