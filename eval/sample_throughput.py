"""Characters a second of the cached sampler, beside the official way in PyTorch.

    python -m eval.throughput sample --model small --batches 1 8 32
    python -m eval.throughput sample --model large --batches 1 64 --dtype bfloat16     # one GPU

Both sides run the same weights in the same process, in turns. The official way samples one piece,
without a cache, in float32.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.torch_side import give_weights, torch_device
from notagen_jax import checkpoints
from notagen_jax.checkpoints.names import official_tensors
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PATCH_SIZE, PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.model import init_params
from notagen_jax.patches import BOS, EOS, decode, encode_continuation
from notagen_jax.sampling import Sampler, SamplingSettings, default_batch_size

PROMPT = "%Baroque\n%Bach, Johann Sebastian\n%Choral\n"


@dataclasses.dataclass(frozen=True)
class SampleThroughput:
    """Characters a second of our sampler and of the official way, and their ratios."""

    model: Literal["mini", "small", "medium", "large"] = "small"
    """Sizes; the weights are random, but end their patches about as often as music does."""
    checkpoint: str | None = None
    """Trained weights instead: anything that `notagen generate --checkpoint` reads."""
    batches: tuple[int, ...] = (1, 8, 32)
    """How many pieces are sampled together."""
    patches: int = 128
    """Patches drawn for each piece; with the prompt they must fit one window."""
    official_patches: int = 8
    """Patches timed of the official way, spread evenly over the piece's length."""
    rounds: int = 3
    """How often both sides are timed in turn; the figures are of all rounds together."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of our side."""
    torch: bool = True
    """Time the official way in PyTorch too, and print the ratios."""
    torch_device: str | None = None
    """Device of the official side: by default a GPU where PyTorch sees one."""
    quick: bool = False
    """A small run: 32 patches, 4 of them timed the official way, one round."""
    json: Path | None = None
    """Write the figures to this file too."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Characters drawn and the time that it took, in one round."""

    characters: float
    seconds: float

    @property
    def rate(self) -> float:
        """Characters a second."""
        return self.characters / self.seconds


def run(options: SampleThroughput) -> dict[str, Any]:
    """Time both sides, print a table and return its figures.

    Raises `NotaGenError` on batch sizes or lengths that cannot be timed, or when PyTorch is asked for
    and missing.
    """
    if options.quick:
        options = dataclasses.replace(options, patches=32, official_patches=4, rounds=1)
    config, params = load_weights(options)
    prompt = encode_continuation(PROMPT).patches
    longest = config.patch_length - len(prompt)
    if not 1 <= options.patches <= longest:
        raise NotaGenError(f"--patches {options.patches}: must be 1 to {longest} to fit the model's window")
    if not options.batches or min(options.batches) < 1 or options.rounds < 1 or options.official_patches < 1:
        raise NotaGenError("--batches, --rounds and --official-patches must be at least 1")
    enable_compilation_cache()
    official = official_sampler(options, config, params, prompt) if options.torch else None
    samplers = {
        batch: Sampler(config.replace(dtype=options.dtype), params, default_batch_size(batch))
        for batch in options.batches
    }
    starts = {batch: first_patches(sampler, batch) for batch, sampler in samplers.items()}
    if options.checkpoint is not None:
        # Its pieces come to an end, and the fewer rows that then go on have programs of their own.
        for batch, sampler in samplers.items():
            time_sampler(sampler, batch, options.patches, options.rounds)
    measured: dict[str, list[Timing]] = {str(batch): [] for batch in options.batches}
    theirs: list[Timing] = []
    if official is not None:
        official(0)
    for turn in range(options.rounds):
        if official is not None:
            theirs.append(official(turn))
        for batch, sampler in samplers.items():
            measured[str(batch)].append(time_sampler(sampler, batch, options.patches, turn))
    figures = {
        "model": options.checkpoint or options.model,
        "patches": options.patches,
        "dtype": options.dtype,
        "device": jax.devices()[0].device_kind,
        "official": summary(theirs) if theirs else None,
        "batches": {
            batch: {
                **summary(timings),
                "start_seconds": starts[int(batch)],
                "ratio": pooled(timings) / pooled(theirs) if theirs else None,
                "ratio_by_round": [a.rate / b.rate for a, b in zip(timings, theirs, strict=False)],
            }
            for batch, timings in measured.items()
        },
    }
    show(figures)
    if options.json is not None:
        write_atomic(options.json, json.dumps(figures, indent=1) + "\n")
    return figures


def load_weights(options: SampleThroughput) -> tuple[ModelConfig, Any]:
    """The configuration and parameters to time."""
    if options.checkpoint is not None:
        checkpoint = checkpoints.load(options.checkpoint)
        return checkpoint.config, checkpoint.params
    config = PRESETS[options.model]
    fresh = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    return config, music_like_ends(config, jax.device_get(fresh))


def music_like_ends(config: ModelConfig, params: Any) -> Any:
    """Make random weights end a patch after about 10 characters, and never end the piece.

    The final norm's bias moves the logit of one character by its embedding: eos up among the
    likeliest nine, where about one draw in nine takes it; bos down, so that no end patch is drawn.
    """
    char = params["char_decoder"]
    table, norm = char["wte"], char["stack"]["ln_f"]
    # Logits of random weights spread by the length of an embedding.
    spread = float(np.sqrt(config.hidden_size) * table.std())
    toward = {EOS: 3.0 * spread, BOS: -20.0 * spread}
    bias = sum(amount * table[code] / (table[code] ** 2).sum() for code, amount in toward.items())
    return {
        **params,
        "char_decoder": {**char, "stack": {**char["stack"], "ln_f": {**norm, "bias": norm["bias"] + bias}}},
    }


def first_patches(sampler: Sampler, batch: int) -> float:
    """Seconds to the first patches of a batch, compilation (or reading it from the cache) included."""
    began = time.perf_counter()
    sampler.generate([PROMPT] * batch, range(batch), SamplingSettings(max_patches=1))
    return time.perf_counter() - began


def time_sampler(sampler: Sampler, batch: int, patches: int, turn: int) -> Timing:
    """Sample `batch` pieces of `patches` patches, prompts read and text made included."""
    seeds = range(turn * batch, (turn + 1) * batch)
    limits = SamplingSettings(max_patches=patches, max_seconds=float("inf"))
    began = time.perf_counter()
    samples = sampler.generate([PROMPT] * batch, seeds, limits)
    seconds = time.perf_counter() - began
    return Timing(sum(len(sample.text) - len(PROMPT) for sample in samples), seconds)


def official_sampler(
    options: SampleThroughput, config: ModelConfig, params: Any, prompt: np.ndarray
) -> Callable[[int], Timing]:
    """The official way as a function of the round: the time of single patches spread over one piece.

    A patch costs the more the longer the piece is, so each timed patch stands for an equal share of
    the piece. What stands before it is text of about the right density; the time does not depend on it.
    """
    device = torch_device(options.torch_device, ", or leave it out with --no-torch")
    import torch

    from eval.torch_reference import TorchNotaGen

    model = TorchNotaGen(config, attention="sdpa")
    give_weights(model, official_tensors(config), params)
    model = model.to(device).eval()
    filler = np.random.default_rng(0).integers(32, 127, (options.patches, PATCH_SIZE), np.uint8)
    piece = torch.from_numpy(np.concatenate([prompt, filler]).astype(np.int64)).to(device)
    count = min(options.official_patches, options.patches)
    lengths = len(prompt) + ((np.arange(count) + 0.5) * options.patches / count).astype(int)

    def measure(turn: int) -> Timing:
        rng = np.random.default_rng(turn)
        characters, began = 0, time.perf_counter()
        for length in lengths:
            drawn = model.sample_patch(piece[:length], rng)
            characters += len(decode(np.array(drawn, np.uint8)))
        return Timing(characters, time.perf_counter() - began)

    return measure


def pooled(timings: list[Timing]) -> float:
    """Characters a second over all rounds."""
    return sum(t.characters for t in timings) / sum(t.seconds for t in timings)


def summary(timings: list[Timing]) -> dict[str, Any]:
    """Figures of one side."""
    return {
        "characters_per_second": pooled(timings),
        "median_of_rounds": statistics.median(t.rate for t in timings),
        "by_round": [t.rate for t in timings],
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    title = (
        f"{figures['model']}, {figures['patches']} patches a piece, {figures['dtype']}, {figures['device']}"
    )
    table = Table(title=title)
    for column in ("sampler", "batch", "characters/s", "ratio", "ratio by round", "first patches (s)"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    if figures["official"] is not None:
        official = figures["official"]["characters_per_second"]
        table.add_row("PyTorch, official way", "1", f"{official:.1f}", "1.0", "", "")
    for batch, row in figures["batches"].items():
        ratios = row["ratio_by_round"]
        table.add_row(
            "notagen-jax",
            batch,
            f"{row['characters_per_second']:.1f}",
            f"{row['ratio']:.1f}" if ratios else "",
            f"{min(ratios):.1f} … {max(ratios):.1f}" if ratios else "",
            f"{row['start_seconds']:.1f}",
        )
    Console().print(table)
