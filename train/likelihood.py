"""Pre-training and fine-tuning: both minimise the NLL of pieces and differ only in their data."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax import checkpoints, lora, losses
from notagen_jax.checkpoints.adapters import ADAPTER_FILE, Adapted, read_adapted, weights_digest
from notagen_jax.checkpoints.checkpoint import LABELS_FILE, labels_json
from notagen_jax.checkpoints.training import trains_adapters
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.flops import train_flops
from notagen_jax.labels import Prompt
from notagen_jax.lora import LoraConfig
from notagen_jax.model import init_params
from train import loop
from train.checkpointing import model_of_run
from train.config import RunConfig
from train.data import Corpus, Loader, has_held_out, held_out_batches, open_corpus
from train.devices import connect
from train.samples import sampled_pieces
from train.step import Batch, Loss, LossSums, Params


def likelihood_loss(model: ModelConfig, adapters: LoraConfig | None = None) -> Loss:
    """The NLL of packed rows as a loss of the loop, by character.

    With `adapters` the trained parameters are those, and `frozen` is the model that they adapt.
    """

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        pairs = None if adapters is None else lora.scaled(params, adapters)
        total, weight = losses.nll_sum(
            model, params if adapters is None else frozen, batch["patches"], batch["segments"], key, pairs
        )
        return LossSums(total, weight, {"bits_per_char": total / math.log(2)})

    return loss


def starting_point(config: RunConfig) -> tuple[ModelConfig, Params]:
    """Model and first parameters: from `init` with its sizes, or fresh ones of the configured sizes.

    A run that already has checkpoints needs no `init` any more and takes its own sizes; its
    parameters are shapes, which the checkpoint fills.
    """
    before = model_of_run(config.run)
    if before is not None:
        model = config.model.replace(**before.sizes)
        return model, jax.eval_shape(lambda: init_params(model, jax.random.key(config.seed)))
    if not config.init:
        fresh = jax.jit(init_params, static_argnums=0)(config.model, jax.random.key(config.seed))
        return config.model, jax.device_get(fresh)
    start = checkpoints.load(config.init)
    return config.model.replace(**start.config.sizes), start.params


def adapters_and_base(config: RunConfig) -> tuple[ModelConfig, Params, Params]:
    """Model, first adapters and the frozen model under them, in the type that training holds it in.

    Writes `adapter.json` to the run folder. Raises `NotaGenError` when the run there trains something
    else, or adapts another model.
    """
    base = checkpoints.load(config.init)
    model = config.model.replace(**base.config.sizes)
    path = config.init if checkpoints.names_packaged(config.init) else str(Path(config.init).absolute())
    adapted = Adapted(config.lora, base.config, path, weights_digest(base.params))
    description = config.run / ADAPTER_FILE
    if model_of_run(config.run) is not None:
        if not description.is_file():
            raise NotaGenError(f"{config.run}: this run trains the model itself; choose another --run folder")
        before = read_adapted(description)
        if (before.lora, before.digest) != (adapted.lora, adapted.digest):
            raise NotaGenError(
                f"{config.run}: this run was started with other lora settings or another --init; set them as "
                "they were, or choose another --run folder"
            )
    if jax.process_index() == 0:
        write_atomic(description, adapted.to_json())
    first = lora.init_adapters(model, config.lora, jax.random.key(config.seed))
    dtype = jnp.dtype(config.lora.base_dtype)
    frozen = jax.tree.map(lambda leaf: leaf.astype(dtype), base.params)
    return model, jax.device_get(first), frozen


def train_on_pieces(config: RunConfig) -> dict[str, float]:
    """Run a likelihood stage; returns the last held-out figures (see `train.loop.evaluate`).

    Raises `NotaGenError` when no source is given, a row is longer than the model's window, or a
    source cannot be read.
    """
    connect(config.devices)
    if not config.data.sources:
        raise NotaGenError("no data: give --data.sources the folders of built data sets")
    frozen: Params = {}
    if config.lora.rank:
        model, params, frozen = adapters_and_base(config)
    elif trains_adapters(config.run):
        raise NotaGenError(
            f"{config.run}: this run trains adapters; set --lora.rank as it was, or choose another --run"
        )
    else:
        model, params = starting_point(config)
    if config.data.length > model.patch_length:
        raise NotaGenError(
            f"data.length ({config.data.length}) is longer than the model's window "
            f"({model.patch_length} patches)"
        )
    corpora = [open_corpus(folder, "train") for folder in config.data.sources]
    held_out = [open_corpus(folder, "validation") for folder in config.data.sources if has_held_out(folder)]
    labels = labels_of(corpora)
    if config.data.prompts and jax.process_index() == 0:
        write_atomic(config.run / LABELS_FILE, labels_json(labels))
    names = [corpus.name for corpus in held_out]
    adapters = config.lora if config.lora.rank else None
    per_patch = sum(train_flops(model, config.data.length).values())
    stage = loop.Stage(
        config=model,
        params=params,
        frozen=frozen,
        loss=likelihood_loss(model, adapters),
        train=Loader(corpora, config.data, config.seed),
        held_out={
            corpus.name if names.count(corpus.name) == 1 else f"{corpus.name} ({number})": held_out_batches(
                corpus, config.data, config.evaluate_rows
            )
            for number, corpus in enumerate(held_out, 1)
        },
        flops=lambda batch: per_patch * float(np.count_nonzero(batch["segments"])),
        samples=sampled_pieces(config, model, labels) if config.samples.count else None,
    )
    return loop.run(stage, config)


def labels_of(corpora: Sequence[Corpus]) -> list[Prompt]:
    """The prompts that the pieces of some corpora carry, each once."""
    return sorted({Prompt(*label) for corpus in corpora for label in corpus.labels()})
