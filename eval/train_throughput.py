"""Training speed, beside PyTorch twins on the same real batches in the same run.

    python -m eval.throughput train                                                # small, two CPU cores
    python -m eval.throughput train --model large --rows 4 --length 1024 --dtype bfloat16 \\
        --attention cudnn --steps 10                                               # one GPU

Each side starts from the same weights. On a CPU the sides are timed in turns; on a GPU one after the
other, because they do not fit beside each other.
"""

import dataclasses
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.torch_side import torch_device
from eval.train_batches import HostBatch, batches
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PATCH_SIZE, PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.flops import Peak, device_peak, measured_peak, train_flops
from notagen_jax.losses import nll_sum, target_mask
from notagen_jax.model import init_params

OURS = "notagen-jax"
DISTINCT = 4
"""Batches that the updates go through in turn."""


@dataclasses.dataclass(frozen=True)
class TrainThroughput:
    """Patches and characters a second in training, MFU, memory, and the ratios to PyTorch."""

    model: Literal["mini", "small", "medium", "large"] = "small"
    """Sizes; the weights are the initial ones."""
    rows: int = 1
    """Rows of a batch."""
    length: int = 256
    """Patches of a row, at most the model's window."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of our side. PyTorch's tuned form follows it; its official form is float16 on a GPU."""
    attention: Literal["xla", "cudnn"] = "xla"
    """Our patch-level attention; cudnn turns dropout off in the attention."""
    dropout: bool = True
    """Train with the official rate of 0.1, on all sides, or without dropout."""
    remat: bool = False
    """Recompute our activations in the backward pass."""
    unroll: int | None = None
    """Blocks that one step of our scan over layers holds; None all on a CPU, else 1."""
    char_chunk: int | None = None
    """Patches of a row that our character decoder takes at a time; 0 all, None a sixteenth, at least 32."""
    torch: tuple[Literal["official", "tuned"], ...] = ("official", "tuned")
    """Forms of the PyTorch twin; give none to leave it out."""
    torch_device: str | None = None
    """Device of the twins: by default a GPU where PyTorch sees one."""
    sources: tuple[str, ...] = ()
    """Folders of built data sets; without one, the pieces in tests/data, repeated until they fill a row."""
    steps: int = 1
    """Updates in each round."""
    rounds: int = 3
    """How often each side is timed; the figures are of the fastest round, the spread is shown."""
    quick: bool = False
    """A small run: one row of 32 patches, one round."""
    json: Path | None = None
    """Write the figures to this file too."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One implementation, ready to be timed."""

    updates: Callable[[Sequence[HostBatch]], list[float]]
    """Runs an update on each batch, waits for the last one, and returns the losses (nats)."""
    peak_bytes: Callable[[], int | None]
    """Most memory of the device that it has used; None where nobody counts."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """One side's round."""

    seconds: float
    processor_seconds: float


def run(options: TrainThroughput) -> dict[str, Any]:
    """Time all sides, print a table and return its figures.

    Raises `NotaGenError` on sizes that cannot be timed, or when PyTorch is asked for and missing.
    """
    if options.quick:
        options = dataclasses.replace(options, rows=1, length=32, steps=1, rounds=1)
    config = model_config(options)
    if options.steps < 1 or options.rounds < 1:
        raise NotaGenError("--steps and --rounds must be at least 1")
    # PyTorch needs a part of the GPU's memory too; read when JAX first looks for its devices.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    enable_compilation_cache()
    made = batches(options.sources, min(options.steps, DISTINCT), options.rows, options.length)
    steps = [made[step % len(made)] for step in range(options.steps)]
    params = jax.device_get(jax.jit(init_params, static_argnums=0)(config, jax.random.key(0)))
    makers: dict[str, Callable[[], Side]] = {
        f"PyTorch, {form}": lambda form=form: torch_side(options, config, params, form)  # type: ignore[misc]
        for form in options.torch
    }
    # PyTorch gives its memory back, JAX keeps it: ours comes last.
    makers[OURS] = lambda: our_side(config, params, made[0])
    measured = time_sides(makers, made, steps, options.rounds, config.dtype)
    figures = summarise(options, config, made, steps, measured)
    show(figures)
    if options.json is not None:
        write_atomic(options.json, json.dumps(figures, indent=1) + "\n")
    return figures


def model_config(options: TrainThroughput) -> ModelConfig:
    """The configuration of our side; raises `NotaGenError` when the options do not fit together."""
    preset = PRESETS[options.model]
    if options.length > preset.patch_length:
        raise NotaGenError(
            f"--length {options.length}: the window of {options.model} is {preset.patch_length}"
        )
    rate = 0.1 if options.dropout else 0.0
    chunk = max(options.length // 16, 32) if options.char_chunk is None else options.char_chunk
    deep = preset.patch_layers if jax.default_backend() == "cpu" else 1
    return preset.replace(
        dropout=rate,
        attention_dropout=rate if options.attention == "xla" else 0.0,
        dtype=options.dtype,
        attention=options.attention,
        remat=options.remat,
        unroll=deep if options.unroll is None else options.unroll,
        char_chunk=chunk,
    )


def our_side(config: ModelConfig, params: Any, batch: HostBatch) -> Side:
    """Our update, compiled for batches of this shape: loss, gradient and AdamW, its buffers reused."""
    import optax

    adamw = optax.adamw(1e-4, weight_decay=0.01)

    def update(state: Any, batch: dict[str, jax.Array]) -> tuple[Any, jax.Array]:
        params, moments, step = state
        key = jax.random.fold_in(jax.random.key(0), step) if config.dropout else None

        def loss(params: Any) -> jax.Array:
            total, count = nll_sum(config, params, batch["patches"], batch["segments"], key)
            return total / count

        value, gradient = jax.value_and_grad(loss)(params)
        changes, moments = adamw.update(gradient, moments, params)
        return (optax.apply_updates(params, changes), moments, step + 1), value

    params = jax.device_put(params)
    state = (params, jax.jit(adamw.init)(params), np.int32(0))
    compiled = jax.jit(update, donate_argnums=0).lower(state, batch).compile()
    holder = [state]

    def updates(steps: Sequence[HostBatch]) -> list[float]:
        losses = []
        for batch in steps:
            holder[0], loss = compiled(holder[0], batch)
            losses.append(loss)
        return [float(loss) for loss in losses]

    def peak_bytes() -> int | None:
        seen = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        if seen is not None:
            return int(seen)
        planned: Any = compiled.memory_analysis()
        outputs = planned.output_size_in_bytes - planned.alias_size_in_bytes
        return int(planned.argument_size_in_bytes + planned.temp_size_in_bytes + outputs)

    return Side(updates, peak_bytes)


def torch_side(options: TrainThroughput, config: ModelConfig, params: Any, form: Any) -> Side:
    """A form of the PyTorch twin; raises `NotaGenError` when PyTorch or transformers is missing."""
    device = torch_device(options.torch_device, ", or leave it out with an empty --torch")
    import torch

    from eval.torch_training import trainer, twin

    if device == "cpu":
        precision = torch.bfloat16 if form == "tuned" and config.dtype == "bfloat16" else torch.float32
    else:
        precision = torch.float16 if form == "official" else getattr(torch, config.dtype)
        torch.cuda.reset_peak_memory_stats()
    update = trainer(twin(config, form, params), form, device, precision)

    def updates(steps: Sequence[HostBatch]) -> list[float]:
        return [update(batch["patches"], batch["segments"]) for batch in steps]

    return Side(updates, lambda: None if device == "cpu" else torch.cuda.max_memory_allocated())


@dataclasses.dataclass
class Measured:
    """What was found of all sides, by name."""

    losses: dict[str, list[float]]
    timings: dict[str, list[Timing]]
    peak_bytes: dict[str, int | None]
    peak_flops: Peak
    """Of the device; where it is measured, the highest of all rounds, because other work lowers it."""


def time_sides(
    makers: dict[str, Callable[[], Side]],
    made: Sequence[HostBatch],
    steps: Sequence[HostBatch],
    rounds: int,
    dtype: str,
) -> Measured:
    """Time all sides: on a CPU in turns, with all of them in memory, else one after the other."""
    device = jax.devices()[0]
    found = Measured({}, {name: [] for name in makers}, {}, device_peak(device, dtype))
    groups = [list(makers)] if device.platform == "cpu" else [[name] for name in makers]
    for names in groups:
        sides = {name: makers[name]() for name in names}
        for name, side in sides.items():
            found.losses[name] = side.updates(made[:1])
        for _ in range(rounds):
            for name, side in sides.items():
                began, processor = time.perf_counter(), time.process_time()
                found.losses[name] += side.updates(steps)
                seconds = time.perf_counter() - began
                found.timings[name].append(Timing(seconds, time.process_time() - processor))
            if found.peak_flops.source == "measured":
                found.peak_flops = max(found.peak_flops, measured_peak(device, dtype))
        found.peak_bytes.update({name: side.peak_bytes() for name, side in sides.items()})
        del sides, side
        release()
    return found


def release() -> None:
    """Give memory of the device that nothing holds back to it, for the next side."""
    gc.collect()
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def summarise(
    options: TrainThroughput,
    config: ModelConfig,
    made: Sequence[HostBatch],
    steps: Sequence[HostBatch],
    measured: Measured,
) -> dict[str, Any]:
    """All figures, JSON-ready; rates are of the fastest round of each side."""
    timings, losses, peak = measured.timings, measured.losses, measured.peak_flops
    patches = sum(int(np.count_nonzero(batch["segments"])) for batch in steps)
    characters = sum(int(target_mask(**jax.tree.map(jnp.asarray, batch)).sum()) for batch in steps)
    fill = characters / max(patches, 1)
    needed = train_flops(config, options.length, fill)
    whole = train_flops(config, options.length)
    sides = {}
    for name, rounds in timings.items():
        fastest = min(timing.seconds for timing in rounds)
        sides[name] = {
            "patches_per_second": patches / fastest,
            "characters_per_second": characters / fastest,
            "seconds_per_update": fastest / len(steps),
            "median_seconds_per_update": statistics.median(t.seconds for t in rounds) / len(steps),
            "processor_seconds_per_update": min(t.processor_seconds for t in rounds) / len(steps),
            "mfu": patches / fastest * sum(needed.values()) / peak.flops,
            "mfu_all_positions": patches / fastest * sum(whole.values()) / peak.flops,
            "peak_bytes": measured.peak_bytes[name],
            "losses": [losses[name][0], losses[name][-1]],
            "ratio": fastest / min(timing.seconds for timing in timings[OURS]),
            "ratio_by_round": [
                theirs.seconds / ours.seconds for theirs, ours in zip(rounds, timings[OURS], strict=True)
            ],
            "processor_ratio": min(t.processor_seconds for t in rounds)
            / min(t.processor_seconds for t in timings[OURS]),
        }
    settings = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in ("json", "quick")
    }
    return {
        **settings,
        "char_chunk": config.char_chunk,
        "unroll": config.unroll,
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "peak_flops": peak.flops,
        "peak_source": peak.source,
        "patches_per_update": patches / len(steps),
        "padding": 1 - patches / (len(steps) * made[0]["segments"].size),
        "fill": fill,
        "flops_per_patch": {"patch": whole["patch"], "char": whole["char"], "char_filled": needed["char"]},
        "sides": sides,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table, and what they mean."""
    flops = figures["flops_per_patch"]
    console = Console()
    title = (
        f"{figures['model']}, {figures['rows']} × {figures['length']} patches, {figures['dtype']}, "
        f"dropout {'on' if figures['dropout'] else 'off'}, {figures['device']}"
    )
    table = Table(title=title)
    table.add_column("")
    for column in ("patches/s", "chars/s", "s/update", "MFU", "GiB", "time/ours"):
        table.add_column(column, justify="right")
    for name, row in figures["sides"].items():
        table.add_row(
            name,
            f"{row['patches_per_second']:.1f}",
            f"{row['characters_per_second']:.0f}",
            f"{row['seconds_per_update']:.3f}",
            f"{row['mfu']:.1%}",
            "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}",
            f"{row['ratio']:.2f}",
        )
    console.print(table)
    for line in explanation(figures, flops):
        console.print(line, soft_wrap=True, highlight=False)


def explanation(figures: dict[str, Any], flops: dict[str, float]) -> list[str]:
    """The lines below the table."""
    ours = figures["sides"][OURS]
    lines = [
        f"Training takes {flops['patch'] / 1e9:.2f} GFLOP a patch in the patch decoder and "
        f"{flops['char'] / 1e9:.2f} in the character decoder at {PATCH_SIZE} positions, "
        f"{flops['char_filled'] / 1e9:.2f} at the mean fill of {figures['fill']:.1f}.",
        f"MFU counts real characters against {figures['peak_flops'] / 1e12:.3g} TFLOP/s "
        f"({figures['peak_source']}); at {PATCH_SIZE} positions a patch ours is "
        f"{ours['mfu_all_positions']:.1%}. {figures['padding']:.0%} of the places are padding.",
    ]
    for name, row in figures["sides"].items():
        line = f"{name}: loss {row['losses'][0]:.5f} at the first update, {row['losses'][1]:.5f} at the last"
        if name != OURS:
            ratios = row["ratio_by_round"]
            line += f"; {min(ratios):.2f} … {max(ratios):.2f} × our time by round"
            if figures["platform"] == "cpu":
                line += f", {row['processor_ratio']:.2f} × our processor time"
        lines.append(line)
    return lines
