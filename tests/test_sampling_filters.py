"""The distribution that characters are drawn from."""

import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from notagen_jax.sampling import SamplingSettings
from notagen_jax.sampling.filters import draw, filter_probabilities


def filtered_plainly(logits: np.ndarray, top_k: int, top_p: float, temperature: float) -> np.ndarray:
    """Softmax, top-k, top-p, temperature last, one character after the other in float64."""
    exponentials = np.exp(logits - logits.max())
    probabilities = list(exponentials / exponentials.sum())
    order = sorted(range(len(probabilities)), key=lambda code: (-probabilities[code], code))
    kept = order[:top_k]
    mass = sum(probabilities[code] for code in kept)
    nucleus, reached = [], 0.0
    for code in kept:
        if reached < top_p:
            nucleus.append(code)
            reached += probabilities[code] / mass
    raised = {code: (probabilities[code] / mass) ** (1 / temperature) for code in nucleus}
    result = np.zeros(len(probabilities))
    for code, weight in raised.items():
        result[code] = weight / sum(raised.values())
    return result


@pytest.mark.parametrize("top_k", [1, 9, 128])
@pytest.mark.parametrize("top_p", [0.35, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.2])
def test_filtered_distribution_equals_its_plain_statement(top_k, top_p, temperature):
    logits = np.random.default_rng(0).normal(scale=3.0, size=(40, 128)).astype(np.float32)
    ours = np.asarray(filter_probabilities(jnp.asarray(logits), top_k, top_p, temperature))
    plain = np.stack([filtered_plainly(row.astype(np.float64), top_k, top_p, temperature) for row in logits])
    assert ((ours > 0) == (plain > 0)).all()
    np.testing.assert_allclose(ours, plain, atol=2e-6)


def test_temperature_comes_last():
    # 0.5, 0.3, 0.2: the two likeliest reach 0.75. Were temperature 4 applied first, all three were needed.
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    ours = np.asarray(filter_probabilities(logits, 3, 0.75, 4.0))[0]
    expected = np.array([0.625, 0.375, 0.0]) ** 0.25
    np.testing.assert_allclose(ours, expected / expected.sum(), rtol=1e-5)


def test_exactly_k_stay_when_probabilities_tie():
    ours = np.asarray(filter_probabilities(jnp.zeros((1, 128)), 9, 1.0, 1.2))[0]
    np.testing.assert_allclose(ours, np.where(np.arange(128) < 9, 1 / 9, 0), rtol=1e-6)


def test_nucleus_of_one_and_tiny_temperature_stay_distributions():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(5, 128)), jnp.float32)
    for top_p, temperature in ((1e-6, 1.2), (0.9, 1e-3)):
        ours = np.asarray(filter_probabilities(logits, 9, top_p, temperature))
        np.testing.assert_allclose(ours.max(-1), 1.0, rtol=1e-6)
        assert (ours.argmax(-1) == np.asarray(logits).argmax(-1)).all()


def test_draws_follow_the_distribution_and_never_a_dropped_character():
    probabilities = filter_probabilities(
        jnp.asarray(np.random.default_rng(2).normal(scale=2.0, size=(1, 128)), jnp.float32), 9, 0.9, 1.2
    )
    numbers = 4096
    uniforms = (jnp.arange(numbers) + 0.5) / numbers
    drawn = np.asarray(draw(jnp.repeat(probabilities, numbers, 0), uniforms))
    counts = np.bincount(drawn, minlength=128)
    np.testing.assert_allclose(counts / numbers, np.asarray(probabilities[0]), atol=1.5 / numbers)
    edges = draw(jnp.repeat(probabilities, 2, 0), jnp.array([0.0, np.float32(1 - 2**-24)]))
    assert (np.asarray(probabilities)[0, np.asarray(edges)] > 0).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("max_chars", 0),
        ("max_seconds", 0.0),
        ("max_patches", 0),
    ],
)
def test_settings_that_cannot_work_are_named(field, value):
    with pytest.raises(NotaGenError, match=field):
        SamplingSettings(**{field: value})
