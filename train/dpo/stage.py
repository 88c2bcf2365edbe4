"""DPO as a stage of the training loop (paper section 3.4)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from notagen_jax import losses
from notagen_jax.checkpoints import Checkpoint, load_training
from notagen_jax.checkpoints.checkpoint import LABELS_FILE, labels_json
from notagen_jax.config import SIZES, ModelConfig
from notagen_jax.dpo import BETA, LAMBDA, dpo_terms
from notagen_jax.files import write_atomic
from train import loop
from train.dpo.config import DPOConfig
from train.dpo.pairs import PairLoader, encode
from train.dpo.preferences import Preference
from train.dpo.reference import reference_log_probs
from train.step import Batch, Loss, LossSums, Params

REFERENCE_FILE = "reference.json"


def dpo_stage_loss(model: ModelConfig, beta: float = BETA, lam: float = LAMBDA) -> Loss:
    """The loss of the loop, by pair, on the batches of `PairLoader`: both sides in one forward pass."""

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        patches, reference = batch["patches"], batch["reference"]
        rows = patches.reshape(-1, *patches.shape[2:])
        policy = losses.log_probability(model, params, rows, key).reshape(-1, 2)
        terms, metrics = dpo_terms(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1], beta, lam)
        return LossSums(
            terms.sum(),
            jnp.asarray(len(terms), jnp.float32),
            {name: values.sum() for name, values in metrics.items()},
        )

    return loss


def train_on_preferences(
    config: DPOConfig,
    run: Path,
    seed: int,
    start: Checkpoint,
    preferences: Sequence[Preference],
    say: Callable[[str], object],
) -> Any | None:
    """Train the policy in the folder `run`, from `start`, which is the frozen reference too.

    The reference's log-probabilities are kept in `run`. Returns the policy's parameters after the last
    step, float32 numpy arrays, or None when the run was asked to stop before: it has saved, and goes
    on when called again. Raises `NotaGenError` on preferences without a pair or that cannot be
    encoded.
    """
    model = config.model.replace(**{name: getattr(start.config, name) for name in SIZES})
    pieces = encode(preferences, model.patch_length, seed)
    log_probs = reference_log_probs(
        run / REFERENCE_FILE, model, start.params, pieces, config.reference_rows, say
    )
    pairs = PairLoader(pieces, log_probs, config.pairs, model.patch_length, seed)
    say(f"{pairs.pairs} pairs of {len(pieces)} pieces")
    if start.labels is not None:
        write_atomic(run / LABELS_FILE, labels_json(start.labels))
    stage = loop.Stage(
        config=model,
        params=start.params,
        frozen={},
        loss=dpo_stage_loss(model, config.beta, config.lam),
        train=pairs,
        held_out={},
    )
    loop.run(stage, config.loop(model, run, seed))
    trained = load_training(run)
    return trained.params if trained.source.name == str(config.steps) else None
