"""One update: against PyTorch's AdamW, over any split of the batch, without compiling again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from notagen_jax.config import ModelConfig
from notagen_jax.model import init_params
from train import optimizer as optimizers
from train.config import DeviceConfig, OptimizerConfig
from train.devices import Devices
from train.likelihood import likelihood_loss
from train.step import accumulate_gradients

TINY = ModelConfig(64, 2, 1, 32, dropout=0.0, attention_dropout=0.0)


def packed_batch(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of random characters whose pieces and paddings differ in length."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(3, 128, (rows, 32, 16)).astype(np.uint8)
    patches[:, :, 12:] = 0
    segments = np.zeros((rows, 32), np.int32)
    for row in range(rows):
        first, end = sorted(rng.choice(np.arange(4, 32), 2, replace=False))
        segments[row, :first], segments[row, first:end] = 1, 2
    return {"patches": patches, "segments": segments}


def relative_error(found: object, expected: object) -> float:
    """Largest error of a tree, relative to the largest value of each leaf."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / max(np.abs(np.asarray(b)).max(), 1e-30))
        for a, b in pairs
    )


def test_adamw_and_warm_up_equal_pytorch():
    torch = pytest.importorskip("torch")
    config = OptimizerConfig(learning_rate=0.01, warmup_steps=3, weight_decay=0.1)
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(5, 4)), rng.normal(size=(8, 5, 4))

    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    reference = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.1)
    ours = optimizers.make(config, steps=8)
    params = jnp.asarray(start, jnp.float32)
    state = ours.init(params)
    for step, gradient in enumerate(gradients):
        reference.param_groups[0]["lr"] = 0.01 * min((step + 1) / 3, 1.0)
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        reference.step()
        updates, state = ours.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    assert relative_error(params, parameter.detach().numpy()) < 1e-6


def test_cosine_ends_at_a_tenth():
    rate = optimizers.learning_rate(OptimizerConfig(1.0, warmup_steps=10, decay="cosine"), steps=100)
    assert float(rate(9)) == pytest.approx(1.0)
    assert float(rate(55)) == pytest.approx(0.55, abs=0.01)
    assert float(rate(100)) == pytest.approx(0.1)


def test_warm_up_can_be_turned_off():
    rate = optimizers.learning_rate(OptimizerConfig(1.0, warmup_steps=0), steps=100)
    assert float(rate(0)) == 1.0


def test_accumulated_gradients_equal_the_large_batch():
    params = init_params(TINY, jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, packed_batch(4))
    key = jax.random.key(1)
    whole = accumulate_gradients(likelihood_loss(TINY), params, {}, batch, key, 1)
    parts = accumulate_gradients(likelihood_loss(TINY), params, {}, batch, key, 4)
    assert relative_error(parts, whole) < 1e-5


@pytest.mark.parametrize("kind", ["pmap", "mesh"])
def test_updates_report_the_token_mean_and_compile_once(kind):
    inner = likelihood_loss(TINY)
    traces = 0

    def loss(params, frozen, batch, key):
        nonlocal traces
        traces += 1
        return inner(params, frozen, batch, key)

    params = jax.device_get(init_params(TINY, jax.random.key(0)))
    before = jax.tree.map(np.copy, params)
    batch = packed_batch(2)
    total, weight, _ = inner(params, {}, batch, None)
    optimizer = optimizers.make(OptimizerConfig(1e-2, warmup_steps=0), 10)
    devices = Devices(DeviceConfig(kind))
    first = devices.start(params, optimizer)
    update = devices.update(loss, optimizer, 0, 1, first)
    state, metrics = update(first, {}, devices.rows(batch), devices.wishes(stop=True, save=False))
    assert float(metrics["loss"]) == pytest.approx(float(total / weight), rel=1e-6)
    assert float(metrics["bits_per_char"]) == pytest.approx(float(total / weight) / np.log(2), rel=1e-6)
    assert (float(metrics["stop"]), float(metrics["save"])) == (1, 0)
    assert int(state.step) == 1
    # The state's buffers are given away; the first parameters stay as they were.
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
    assert relative_error(params, before) == 0
    assert relative_error(state.params, before) > 0

    once = traces
    for step in range(3):
        wishes = devices.wishes(stop=False, save=False)
        state, _ = update(state, {}, devices.rows(packed_batch(2, seed=step)), wishes)
    assert traces == once
