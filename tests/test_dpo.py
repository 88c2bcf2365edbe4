"""The losses of CLaMP-DPO against pinned values and a plain float64 statement, values and gradients."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax.dpo import Pairs, dpo_loss, dpo_of_pairs, dpo_terms, pair_log_probs
from tests.tiny_composer import CONFIG, random_params

# The columns of `dpo_terms`' docstring: π⁺, π⁻, r⁺, r⁻.
COLUMNS = (
    np.array([-100.0, -100.0, -103.0], np.float32),
    np.array([-120.0, -130.0, -130.0], np.float32),
    np.array([-100.0, -100.0, -100.0], np.float32),
    np.array([-120.0, -120.0, -120.0], np.float32),
)


def stated(columns: tuple[np.ndarray, ...], beta: float, lam: float) -> tuple[float, np.ndarray]:
    """Mean loss by the formula, and its gradient to π⁺ and π⁻ (2, B), in float64 and by hand."""
    policy_chosen, policy_rejected, chosen, rejected = (np.asarray(c, np.float64) for c in columns)
    lost = np.maximum(0.0, chosen - policy_chosen)
    argument = beta * ((policy_chosen - policy_rejected) - (chosen - rejected) - lam * lost)
    loss = np.array([math.log1p(math.exp(-z)) if z > -30 else -z for z in argument])
    slope = -1.0 / (1.0 + np.exp(argument))  # d(−log σ(z))/dz
    to_chosen = slope * beta * (1.0 + lam * (lost > 0))
    to_rejected = -slope * beta
    return loss.mean(), np.stack([to_chosen, to_rejected]) / len(loss)


def drawn(pairs: int) -> tuple[np.ndarray, ...]:
    """Log-probabilities of the size that whole pieces have, near those of the reference."""
    rng = np.random.default_rng(0)
    references = rng.uniform(-9000, -500, (2, pairs))
    policies = references + rng.normal(0, 8, (2, pairs))
    return tuple(np.asarray(column, np.float32) for column in (*policies, *references))


def test_the_docstring_shows_the_pinned_columns():
    loss, metrics = dpo_terms(*COLUMNS)
    rows = {
        "chosen_log_ratio": [0.0, 0.0, -3.0],
        "rejected_log_ratio": [0.0, -10.0, -10.0],
        "margin": [0.0, 10.0, 7.0],
        "accuracy": [0.0, 1.0, 1.0],
        "penalty": [0.0, 0.0, 30.0],
    }
    assert {name: list(np.asarray(values)) for name, values in metrics.items()} == rows
    np.testing.assert_allclose(loss, [0.6931472, 0.3132617, 2.3955455], rtol=1e-6)
    for name, values in {**rows, "loss": [0.693, 0.313, 2.396]}.items():
        line = next(line for line in dpo_terms.__doc__.splitlines() if line.split()[:1] == [name])
        assert [float(cell) for cell in line.split()[1:4]] == values


@pytest.mark.parametrize("lam", [0.0, 10.0])
@pytest.mark.parametrize("columns", [COLUMNS, drawn(64)], ids=["pinned", "drawn"])
def test_value_and_gradient_equal_the_formula_in_float64(columns, lam):
    loss_of: Callable = lambda chosen, rejected: dpo_loss(chosen, rejected, *columns[2:], 0.1, lam)[0]  # noqa: E731
    loss, gradient = jax.value_and_grad(loss_of, argnums=(0, 1))(*map(jnp.asarray, columns[:2]))
    expected, expected_gradient = stated(columns, 0.1, lam)
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    # The first pinned pair stands at the penalty's kink, where no gradient comes from it.
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-9)


def test_the_reference_takes_no_gradient():
    gradients = jax.grad(lambda *columns: dpo_loss(*columns)[0], argnums=(0, 1, 2, 3))(
        *map(jnp.asarray, drawn(8))
    )
    assert [bool(np.any(gradient)) for gradient in gradients] == [True, True, False, False]


def test_lambda_zero_is_dpo_and_the_metrics_are_means():
    columns = drawn(32)
    policy_chosen, policy_rejected, chosen, rejected = columns
    margin = (policy_chosen - chosen) - (policy_rejected - rejected)
    loss, metrics = dpo_loss(*columns, 0.3, 0.0)
    assert float(loss) == pytest.approx(np.logaddexp(0, -0.3 * margin).mean(), rel=1e-6)
    assert float(metrics["penalty"]) == 0.0
    assert float(metrics["accuracy"]) == np.mean(margin > 0)
    assert float(metrics["margin"]) == pytest.approx(margin.mean(), rel=1e-6)


def test_extreme_log_ratios_stay_finite():
    columns = [np.array([value], np.float32) for value in (-90_000.0, -100.0, -100.0, -90_000.0)]
    loss_of: Callable = lambda chosen: dpo_loss(chosen, *columns[1:])[0]  # noqa: E731
    loss, gradient = jax.value_and_grad(loss_of)(jnp.asarray(columns[0]))
    assert np.isfinite(loss)
    np.testing.assert_allclose(gradient, [-0.1 * 11], rtol=1e-6)


@pytest.fixture(scope="module")
def batch():
    """Policy, reference and two pairs of different lengths."""
    policy, reference = (random_params(CONFIG, seed) for seed in (0, 1))
    rng = np.random.default_rng(0)
    patches = rng.integers(32, 127, (4, 12, 16), dtype=np.uint8)
    patches[1, 7:] = patches[2, 9:] = 0
    return policy, reference, Pairs(patches[:2], patches[2:])


log_probs_of = jax.jit(pair_log_probs, static_argnums=0)


def test_reference_parameters_and_precomputed_log_probs_agree(batch):
    policy, reference, pairs = batch
    of_pairs = jax.jit(dpo_of_pairs, static_argnums=0)
    by_params, metrics = of_pairs(CONFIG, policy, reference, pairs)
    known = log_probs_of(CONFIG, reference, pairs)
    by_log_probs, same = of_pairs(CONFIG, policy, known, pairs)
    assert float(by_params) == pytest.approx(float(by_log_probs), rel=1e-6)
    assert metrics.keys() == same.keys()
    columns = (*log_probs_of(CONFIG, policy, pairs), *known)
    assert float(by_params) == pytest.approx(stated(columns, 0.1, 10.0)[0], rel=1e-5)


def test_a_side_does_not_depend_on_the_other_and_a_key_turns_dropout_on(batch):
    policy, _, pairs = batch
    still = log_probs_of(CONFIG, policy, pairs)
    swapped = log_probs_of(CONFIG, policy, Pairs(pairs.rejected, pairs.chosen))
    np.testing.assert_allclose(swapped.chosen, still.rejected, rtol=1e-6)
    np.testing.assert_allclose(swapped.rejected, still.chosen, rtol=1e-6)
    shaken = log_probs_of(CONFIG.replace(dropout=0.2), policy, pairs, jax.random.key(0))
    assert np.all(np.abs(shaken.chosen - still.chosen) > 0.1)
