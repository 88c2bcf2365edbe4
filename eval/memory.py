"""Memory of one update, by XLA's own analysis of the compiled program; no array is ever made.

    python -m eval.memory large --data.rows 1
    python -m eval.memory large-lora --data.rows 1
    JAX_NUM_CPU_DEVICES=8 python -m eval.memory large --data.rows 8 --devices.kind mesh

Takes the experiments of `train.finetune` and every setting of theirs. The figures are those of the device
that it runs on, for each device: a CPU computes bfloat16 products in float32, so there the temporaries are
larger than on an accelerator, never smaller.
"""

import math
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import init_adapters
from notagen_jax.model import init_params
from train import optimizer as optimizers
from train.config import RunConfig
from train.configs import FINETUNE
from train.devices import Devices, HostBatch
from train.likelihood import likelihood_loss


class Memory(NamedTuple):
    """Bytes that one update needs on one device."""

    params: int
    """Of the parameters that are trained."""
    optimizer: int
    """Of the optimizer's state."""
    frozen: int
    """Of the model under adapters."""
    temporaries: int
    """Gradients, activations and whatever else lives only during the update."""
    peak: int
    """The most that is in memory at any time, arguments, results and temporaries."""


def update_memory(config: RunConfig) -> Memory:
    """Compile the update of a likelihood stage for the devices at hand and ask XLA what it needs.

    Raises `NotaGenError` when the rows do not divide over the devices.
    """
    devices = Devices(config.devices)
    model, adapters = config.model, config.lora if config.lora.rank else None
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    frozen: Any = {}
    if adapters is not None:
        frozen = devices.like(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, adapters.base_dtype), params)
        )
        params = jax.eval_shape(lambda: init_adapters(model, adapters, jax.random.key(0)))
    optimizer = optimizers.make(config.optimizer, config.steps)
    state = devices.shapes(params, optimizer)
    rows, length = config.data.rows, config.data.length
    batch: HostBatch = {
        "patches": np.zeros((rows, length, PATCH_SIZE), np.uint8),
        "segments": np.ones((rows, length), np.int32),
    }
    wishes = devices.wishes(stop=False, save=False)
    # pmap and jit both give functions that can be compiled without being run.
    update: Any = devices.update(likelihood_loss(model, adapters), optimizer, 0, config.accumulate, state)
    compiled = update.lower(state, frozen, devices.rows(batch, config.accumulate), wishes).compile()
    analysis = compiled.memory_analysis()
    arguments, results, shared, temporaries = (
        getattr(analysis, f"{name}_size_in_bytes") for name in ("argument", "output", "alias", "temp")
    )
    return Memory(
        params=bytes_each(state.params),
        optimizer=bytes_each(state.optimizer),
        frozen=bytes_each(frozen),
        temporaries=temporaries,
        peak=arguments + results - shared + temporaries,
    )


def bytes_each(tree: Any) -> int:
    """Bytes of a tree of placed shapes on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def show(config: RunConfig, memory: Memory) -> None:
    """Print the parts as a table, in GB (10^9 bytes)."""
    device = jax.devices()[0].device_kind
    table = Table(title=f"one update of {config.data.rows} × {config.data.length} patches, {device}")
    table.add_column("each device")
    table.add_column("GB", justify="right")
    for name, size in zip(Memory._fields, memory, strict=True):
        table.add_row(name, f"{size / 1e9:.2f}")
    Console().print(table)


def main() -> None:
    """Parse `EXPERIMENT [--field value …]`, analyse, and exit: 1 with one message on a mendable error."""
    config = tyro.extras.overridable_config_cli(FINETUNE, description=__doc__)
    try:
        show(config, update_memory(config))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
