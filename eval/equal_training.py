"""Whether training here is training in PyTorch: `python -m eval.equal_training --data FOLDER`.

The same initial weights, batches in the same order, AdamW and warm-up, dropout off, float32: the two
loss curves must lie within 1e-3 of each other at every step. The figures are printed and written as
JSON, and the curves drawn; docs/equal-training.svg is such a drawing.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from eval.drawing import new_picture
from eval.torch_side import give_weights, torch_device
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import atomic_stream, write_atomic
from notagen_jax.model import init_params
from train import optimizer as optimizers
from train.config import DataConfig, DeviceConfig, OptimizerConfig
from train.corpus import open_corpus
from train.data import Loader
from train.devices import Devices, HostBatch
from train.likelihood import likelihood_loss

TOLERANCE = 1e-3
"""Largest difference of the two losses, relative to PyTorch's, at any step."""


@dataclasses.dataclass(frozen=True)
class EqualTraining:
    """Train the same model here and in PyTorch, and compare the losses step by step."""

    data: str
    """Folder of a built data set."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("equal-training")
    """Folder of the figures (losses.json) and the curves (losses.svg)."""
    hidden_size: int = 128
    patch_layers: int = 3
    char_layers: int = 2
    rows: int = 2
    """Pieces of a batch; a row is a piece, padded or cut at its head, middle or tail."""
    length: int = 160
    """Patches of a row."""
    steps: int = 300
    learning_rate: float = 5e-4
    warmup_steps: int = 30
    seed: int = 0
    plot: Path | None = None
    """Draw the curves in this file, not in `out`."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise NotaGenError(f"--steps must be at least 1, got {self.steps}")

    @property
    def model(self) -> ModelConfig:
        """The model, without dropout."""
        return ModelConfig(
            self.hidden_size,
            self.patch_layers,
            self.char_layers,
            self.length,
            dropout=0.0,
            attention_dropout=0.0,
        )

    @property
    def optimizer(self) -> OptimizerConfig:
        """AdamW as the official code has it, and the warm-up."""
        return OptimizerConfig(learning_rate=self.learning_rate, warmup_steps=self.warmup_steps)


def batches(options: EqualTraining) -> Iterator[HostBatch]:
    """The batches of both sides, one piece a row."""
    settings = DataConfig(rows=options.rows, length=options.length, packing="off")
    return Loader([open_corpus(options.data, "train")], settings, options.seed).batches()


def losses_here(options: EqualTraining, params: Any) -> list[float]:
    """Loss (nats a character) of every step of the shared loop's update."""
    devices = Devices(DeviceConfig())
    optimizer = optimizers.make(options.optimizer, options.steps)
    shapes = devices.shapes(params, optimizer)
    update = devices.update(likelihood_loss(options.model), optimizer, options.seed, 1, shapes)
    state, source = devices.start(params, optimizer), batches(options)
    losses = []
    for _ in range(options.steps):
        state, metrics = update(state, {}, devices.rows(next(source)), devices.wishes())
        losses.append(float(metrics["loss"]))
    return losses


def losses_in_torch(options: EqualTraining, params: Any) -> list[float]:
    """The same in PyTorch, on the GPT-2 modules of `transformers`."""
    import torch

    from eval.torch_reference import TorchNotaGen
    from notagen_jax.checkpoints.names import official_tensors

    model = TorchNotaGen(options.model)
    give_weights(model, official_tensors(options.model), params)
    model.train()
    rate = optimizers.learning_rate(options.optimizer, options.steps)
    adamw = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    source, losses = batches(options), []
    for step in range(options.steps):
        batch = next(source)
        adamw.param_groups[0]["lr"] = float(rate(step))
        loss = model(
            torch.from_numpy(batch["patches"].astype(np.int64)),
            torch.from_numpy((batch["segments"] > 0).astype(np.int64)),
        )
        adamw.zero_grad()
        loss.backward()
        adamw.step()
        losses.append(loss.item())
    return losses


def run(options: EqualTraining) -> dict[str, Any]:
    """Train both, write and print the comparison, and return its figures."""
    torch_device()  # what is missing shows before hours of training, not after
    new_picture(1, 1)
    enable_compilation_cache()
    fresh = jax.jit(init_params, static_argnums=0)(options.model, jax.random.key(options.seed))
    params = jax.device_get(fresh)
    sides, seconds = {}, {}
    for name, train in (("notagen-jax", losses_here), ("PyTorch", losses_in_torch)):
        print(f"{name}: {options.steps} steps", file=sys.stderr, flush=True)
        began = time.perf_counter()
        sides[name] = train(options, params)
        seconds[name] = time.perf_counter() - began
    ours, theirs = (np.array(losses) for losses in sides.values())
    differences = np.abs(ours - theirs) / theirs
    figures = {
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "plot")},
        "first_loss": float(theirs[0]),
        "last_loss": float(theirs[-10:].mean()),
        "largest_difference": float(differences.max()),
        "at_step": int(differences.argmax()) + 1,
        "within_tolerance": bool(differences.max() <= TOLERANCE),
        "seconds": seconds,
        "losses": sides,
    }
    write_atomic(options.out / "losses.json", json.dumps(figures, indent=1) + "\n")
    draw(figures, options.plot or options.out / "losses.svg")
    print(
        f"{options.steps} steps, loss {figures['first_loss']:.4f} → {figures['last_loss']:.4f} nats a char; "
        f"largest relative difference {figures['largest_difference']:.2e} (step {figures['at_step']}), "
        f"{'within' if figures['within_tolerance'] else 'NOT within'} {TOLERANCE:g}"
    )
    return figures


def draw(figures: dict[str, Any], path: Path) -> None:
    """The two curves, one over the other, and their relative difference below, as SVG."""
    figure = new_picture(7, 5)
    curves, difference = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ours, theirs = figures["losses"].values()
    steps = np.arange(1, len(ours) + 1)
    curves.plot(steps, theirs, color="C1", linewidth=3, alpha=0.5, label="PyTorch")
    curves.plot(steps, ours, color="C0", linewidth=0.8, label="notagen-jax")
    curves.set_ylabel("loss, nats a character")
    curves.legend()
    difference.semilogy(steps, np.maximum(np.abs(np.subtract(ours, theirs)) / theirs, 1e-9), linewidth=0.8)
    difference.axhline(TOLERANCE, color="grey", linestyle=":")
    difference.set_ylabel("relative difference")
    difference.set_xlabel("step")
    with atomic_stream(path) as stream:
        figure.savefig(stream, format="svg", metadata={"Date": None})


def main() -> None:
    """Entry point: exit 1 where the curves differ, or with one message on a mendable error."""
    try:
        figures = run(tyro.cli(EqualTraining, prog="python -m eval.equal_training", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0 if figures["within_tolerance"] else 1)


if __name__ == "__main__":
    main()
