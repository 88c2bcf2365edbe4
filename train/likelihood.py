"""Pre-training and fine-tuning: both minimise the NLL of pieces and differ only in their data."""

import math
import sys
from collections.abc import Sequence

import jax
import numpy as np

from notagen_jax import checkpoints, lora, losses
from notagen_jax.checkpoints.checkpoint import LABELS_FILE, labels_json
from notagen_jax.config import ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.flops import train_flops
from notagen_jax.labels import Prompt
from notagen_jax.lora import LoraConfig
from notagen_jax.model import init_params
from train import loop
from train.adapting import adapters_and_base, check_kind
from train.checkpointing import model_of_run
from train.config import RunConfig
from train.corpus import Corpus, has_held_out, open_corpus
from train.data import Loader, held_out_batches
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


def train_on_pieces(config: RunConfig) -> dict[str, float]:
    """Run a likelihood stage; returns the last held-out figures (see `train.loop.evaluate`).

    Raises `NotaGenError` when no source is given, a row is longer than the model's window, or a
    source cannot be read.
    """
    connect(config.devices)
    if not config.data.sources:
        raise NotaGenError("no data: give --data.sources the folders of built data sets")
    adapters = config.lora if config.lora.rank else None
    check_kind(config.run, adapters)
    frozen: Params = {}
    if adapters is None:
        model, params = starting_point(config)
    else:
        if not config.init:
            raise NotaGenError("adapters need a model to adapt: give its checkpoint as --init")
        base = checkpoints.load(config.init)
        model = config.model.replace(**base.config.sizes)
        params, frozen = adapters_and_base(config.run, adapters, base, config.seed)
    if config.data.length > model.patch_length:
        raise NotaGenError(
            f"data.length ({config.data.length}) is longer than the model's window "
            f"({model.patch_length} patches)"
        )
    corpora = [open_corpus(folder, "train") for folder in config.data.sources]
    held_out = [open_corpus(folder, "validation") for folder in config.data.sources if has_held_out(folder)]
    train = Loader(corpora, config.data, config.seed)
    labels = labels_of(train.corpora)
    if jax.process_index() == 0:
        for line in left_out(corpora, train.corpora, config.data.longest):
            print(line, file=sys.stderr)
        if config.data.prompts:
            write_atomic(config.run / LABELS_FILE, labels_json(labels))
    names = [corpus.name for corpus in held_out]
    per_patch = sum(train_flops(model, config.data.length).values())
    stage = loop.Stage(
        config=model,
        params=params,
        frozen=frozen,
        loss=likelihood_loss(model, adapters),
        train=train,
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


def left_out(corpora: Sequence[Corpus], kept: Sequence[Corpus], longest: int) -> list[str]:
    """A line for each corpus of which `DataConfig.longest` keeps a part."""
    return [
        f"{whole.name}: {len(whole) - len(part)} of {len(whole)} pieces are longer than data.longest "
        f"({longest} patches) and left out; --data.longest 0 takes all"
        for whole, part in zip(corpora, kept, strict=True)
        if len(part) < len(whole)
    ]
