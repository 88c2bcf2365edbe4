"""DPO as a stage of the training loop (paper section 3.4)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax import lora, losses
from notagen_jax.checkpoints import Checkpoint, load_training
from notagen_jax.checkpoints.checkpoint import LABELS_FILE, labels_json
from notagen_jax.checkpoints.training import load_run_adapters
from notagen_jax.config import ModelConfig
from notagen_jax.dpo import BETA, LAMBDA, dpo_terms
from notagen_jax.files import write_atomic
from notagen_jax.flops import train_flops
from notagen_jax.lora import LoraConfig
from train import loop
from train.adapting import adapters_and_base, check_kind
from train.devices import HostBatch
from train.dpo.config import DPOConfig
from train.dpo.pairs import PairLoader, encode
from train.dpo.preferences import Preference
from train.dpo.reference import reference_log_probs
from train.step import Batch, Loss, LossSums, Params

REFERENCE_FILE = "reference.json"
Say = Callable[[str], object]


def preference_loss(
    model: ModelConfig, beta: float = BETA, lam: float = LAMBDA, adapters: LoraConfig | None = None
) -> Loss:
    """DPO on the batches of `PairLoader` as a loss of the loop, by pair: both sides in one forward pass.

    With `adapters` the trained parameters are those, and `frozen` is the model that they adapt.
    """

    def loss(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> LossSums:
        patches, reference = batch["patches"], batch["reference"]
        rows = patches.reshape(-1, *patches.shape[2:])
        low_rank = None if adapters is None else lora.scaled(params, adapters)
        whole = params if adapters is None else frozen
        policy = losses.log_probability(model, whole, rows, key, low_rank).reshape(-1, 2)
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
    say: Say,
) -> Params | None:
    """Train the policy in the folder `run`, from `start`, which is the frozen reference too.

    `seed` decides the pairs and the windows of long pieces. The reference's log-probabilities are kept
    in `run`. Returns the policy's parameters after the last step, float32 numpy arrays, adapters
    merged; None when the run was asked to stop before: it has saved, and goes on when called again.
    Raises `NotaGenError` on preferences without a pair or that cannot be encoded.
    """
    model = config.model.replace(**start.config.sizes)
    adapters = config.lora if config.lora.rank else None
    check_kind(run, adapters)
    params: Params = start.params
    frozen: Params = {}
    if adapters is not None:
        params, frozen = adapters_and_base(run, adapters, start, seed)
    pieces = encode(preferences, model.patch_length, seed)
    # Of the very parameters that the policy starts from, in their type.
    reference = start.params if adapters is None else frozen
    log_probs = reference_log_probs(
        run / REFERENCE_FILE, model, reference, pieces, config.reference_rows, say
    )
    pairs = PairLoader(pieces, log_probs, config.pairs, model.patch_length, seed)
    say(f"{pairs.pairs} pairs of {len(pieces)} pieces")
    if start.labels is not None and jax.process_index() == 0:
        write_atomic(run / LABELS_FILE, labels_json(start.labels))
    stage = loop.Stage(
        config=model,
        params=params,
        frozen=frozen,
        loss=preference_loss(model, config.beta, config.lam, adapters),
        train=pairs,
        held_out={},
        flops=lambda batch: _flops(model, batch),
    )
    loop.run(stage, config.loop(run))
    return _trained(run, config.steps, start, adapters)


def _trained(run: Path, steps: int, start: Checkpoint, adapters: LoraConfig | None) -> Params | None:
    """The parameters after the last step; None when the newest checkpoint is of an earlier one."""
    if adapters is None:
        trained = load_training(run)
        return trained.params if trained.source.name == str(steps) else None
    low_rank = load_run_adapters(run)
    if low_rank.source.name != str(steps):
        return None
    return lora.merge(start.params, low_rank.tree, adapters)


def _flops(model: ModelConfig, batch: HostBatch) -> float:
    """Arithmetic of an update: that of a likelihood stage on as many patches."""
    per_patch = sum(train_flops(model, batch["patches"].shape[2]).values())
    return per_patch * float(np.count_nonzero(batch["segments"]))
