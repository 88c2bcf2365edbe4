"""Pre-training and fine-tuning: both minimise the NLL of pieces and differ only in their data."""

from typing import Any

import jax

from notagen_jax import checkpoints, losses
from notagen_jax.checkpoints.checkpoint import LABELS_FILE, labels_json
from notagen_jax.config import SIZES, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import Prompt
from notagen_jax.model import init_params
from train import loop
from train.checkpointing import model_of_run
from train.config import RunConfig
from train.data import Corpus, Loader, has_held_out, held_out_batches, open_corpus
from train.step import Batch, Loss, LossSums, Params


def likelihood_loss(model: ModelConfig) -> Loss:
    """The NLL of packed rows as a loss of the loop, by character."""

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        total, weight = losses.nll_sum(model, params, batch["patches"], batch["segments"], key)
        return LossSums(total, weight, {})

    return loss


def starting_point(config: RunConfig) -> tuple[ModelConfig, Any]:
    """Model and first parameters: from `init` with its sizes, or fresh ones of the configured sizes.

    A run that already has checkpoints needs no `init` any more and takes its own sizes.
    """
    before = model_of_run(config.run)
    if before is not None:
        model = config.model.replace(**{name: getattr(before, name) for name in SIZES})
        return model, jax.jit(init_params, static_argnums=0)(model, jax.random.key(config.seed))
    if not config.init:
        return config.model, jax.jit(init_params, static_argnums=0)(config.model, jax.random.key(config.seed))
    start = checkpoints.load(config.init)
    return config.model.replace(**{name: getattr(start.config, name) for name in SIZES}), start.params


def train_on_pieces(config: RunConfig) -> dict[str, float]:
    """Run a likelihood stage; returns the last held-out losses (nats per character) by source.

    Raises `NotaGenError` when no source is given, a row is longer than the model's window, or a
    source cannot be read.
    """
    if not config.data.sources:
        raise NotaGenError("no data: give --data.sources the folders of built data sets")
    model, params = starting_point(config)
    if config.data.length > model.patch_length:
        raise NotaGenError(
            f"data.length ({config.data.length}) is longer than the model's window "
            f"({model.patch_length} patches)"
        )
    corpora = [open_corpus(folder, "train") for folder in config.data.sources]
    held_out = [open_corpus(folder, "validation") for folder in config.data.sources if has_held_out(folder)]
    if config.data.prompts:
        save_labels(config, corpora)
    names = [corpus.name for corpus in held_out]
    stage = loop.Stage(
        config=model,
        params=params,
        frozen={},
        loss=likelihood_loss(model),
        train=Loader(corpora, config.data, config.seed),
        held_out={
            corpus.name if names.count(corpus.name) == 1 else f"{corpus.name} ({number})": held_out_batches(
                corpus, config.data, config.evaluate_rows
            )
            for number, corpus in enumerate(held_out, 1)
        },
    )
    return loop.run(stage, config)


def save_labels(config: RunConfig, corpora: list[Corpus]) -> None:
    """Write the prompts that the training pieces carry to `labels.json` in the run folder."""
    labels = sorted({Prompt(*corpus.label(piece)) for corpus in corpora for piece in range(len(corpus))})
    write_atomic(config.run / LABELS_FILE, labels_json(labels))
