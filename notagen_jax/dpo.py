"""The losses of CLaMP-DPO: DPO and DPO-Positive, pure functions (paper section 3.4, fact sheet section 7).

A pair is one chosen and one rejected piece of the same prompt. With π the policy, r the frozen
reference, and log-probabilities of whole sequences in nats:

    margin  = (π⁺ − r⁺) − (π⁻ − r⁻)
    penalty = λ · max(0, r⁺ − π⁺)
    loss    = −log σ(β · (margin − penalty))

λ = 0 is DPO (arXiv 2305.18290); λ > 0 is DPO-Positive (arXiv 2402.13228), whose penalty keeps the
chosen pieces from losing likelihood while the rejected ones lose more.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from notagen_jax.config import ModelConfig
from notagen_jax.losses import log_probability

BETA = 0.1
LAMBDA = 10.0
"""The paper's settings of both losses."""


class Pairs(NamedTuple):
    """A batch of pairs in patches; both sides are padded to one length."""

    chosen: jax.Array
    """uint8 (B, P, 16)."""
    rejected: jax.Array
    """uint8 (B, P, 16)."""


class LogProbs(NamedTuple):
    """Log-probabilities (nats) of both sides of a batch of pairs."""

    chosen: jax.Array
    """float32 (B,)."""
    rejected: jax.Array
    """float32 (B,)."""


def dpo_terms(
    policy_chosen: jax.Array,
    policy_rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    beta: float | jax.Array = BETA,
    lam: float | jax.Array = LAMBDA,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of every pair, and what it is made of, from the log-probabilities (nats) of sequences.

    One pair a column, β 0.1, λ 10:

        policy_chosen          -100.0   -100.0   -103.0
        policy_rejected        -120.0   -130.0   -130.0
        reference_chosen       -100.0   -100.0   -100.0
        reference_rejected     -120.0   -120.0   -120.0
        chosen_log_ratio          0.0      0.0     -3.0     π⁺ − r⁺
        rejected_log_ratio        0.0    -10.0    -10.0     π⁻ − r⁻
        margin                    0.0     10.0      7.0     their difference
        accuracy                  0.0      1.0      1.0     1 where the margin is above 0
        penalty                   0.0      0.0     30.0     λ · max(0, r⁺ − π⁺)
        loss                    0.693    0.313    2.396     −log σ(β · (margin − penalty))

    All arrays float32 (B,); the references take no gradient. Where policy and reference agree, as at
    the first step, the penalty has no gradient (as in the official code).
    """
    reference_chosen = jax.lax.stop_gradient(reference_chosen)
    reference_rejected = jax.lax.stop_gradient(reference_rejected)
    chosen = policy_chosen - reference_chosen
    rejected = policy_rejected - reference_rejected
    margin = chosen - rejected
    # Not jnp.maximum, which gives half a gradient at 0.
    penalty = lam * jax.nn.relu(-chosen)
    loss = jax.nn.softplus(-beta * (margin - penalty))
    return loss, {
        "margin": margin,
        "accuracy": (margin > 0).astype(jnp.float32),
        "chosen_log_ratio": chosen,
        "rejected_log_ratio": rejected,
        "penalty": penalty,
    }


def dpo_loss(
    policy_chosen: jax.Array,
    policy_rejected: jax.Array,
    reference_chosen: jax.Array,
    reference_rejected: jax.Array,
    beta: float | jax.Array = BETA,
    lam: float | jax.Array = LAMBDA,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss over a batch of pairs and the means of its metrics; arguments as in `dpo_terms`.

    Returns float32 scalars: the loss, and `margin`, `accuracy`, `chosen_log_ratio`,
    `rejected_log_ratio`, `penalty` (nats, but the accuracy).
    """
    loss, metrics = dpo_terms(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta, lam)
    return jnp.mean(loss), {name: jnp.mean(values) for name, values in metrics.items()}


def pair_log_probs(
    config: ModelConfig, params: Any, pairs: Pairs, dropout_key: jax.Array | None = None
) -> LogProbs:
    """Log-probabilities (nats) of both sides of the pairs, in one forward pass of 2 B rows.

    A sequence's is the sum over all its target characters, metadata included. A key turns dropout on.
    """
    rows = jnp.concatenate([pairs.chosen, pairs.rejected])
    chosen, rejected = jnp.split(log_probability(config, params, rows, dropout_key), 2)
    return LogProbs(chosen, rejected)


def dpo_of_pairs(
    config: ModelConfig,
    params: Any,
    reference: LogProbs | Any,
    pairs: Pairs,
    beta: float | jax.Array = BETA,
    lam: float | jax.Array = LAMBDA,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of a batch of pairs under a policy, as `dpo_loss`.

    params:      parameters of the policy
    reference:   the frozen reference: its `LogProbs` of these pairs, or its parameters; it never has
                 dropout, so its log-probability of a piece is one number for the whole training
    dropout_key: a key turns the policy's dropout on
    """
    if not isinstance(reference, LogProbs):
        reference = pair_log_probs(config, jax.lax.stop_gradient(reference), pairs)
    policy = pair_log_probs(config, params, pairs, dropout_key)
    return dpo_loss(*policy, *reference, beta, lam)
