"""One update: against PyTorch's AdamW, over any split of the batch, over any number of devices."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from notagen_jax.config import ModelConfig
from notagen_jax.model import init_params
from train import optimizer as optimizers
from train.config import OptimizerConfig
from train.likelihood import likelihood_loss
from train.step import accumulate_gradients, init_state, make_update, replicate, shard, unreplicate

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


def test_update_reports_the_token_mean():
    loss = likelihood_loss(TINY)
    params = init_params(TINY, jax.random.key(0))
    batch = packed_batch(2)
    total, weight, _ = loss(params, {}, batch, None)
    optimizer = optimizers.make(OptimizerConfig(), 10)
    update = make_update(loss, optimizer, seed=0)
    state, metrics = update(replicate(init_state(params, optimizer)), {}, shard(batch))
    assert float(metrics["loss"]) == pytest.approx(float(total / weight), rel=1e-6)
    assert int(unreplicate(state).step) == 1


def test_nothing_recompiles_after_the_first_step():
    traces = 0
    inner = likelihood_loss(TINY)

    def loss(params, frozen, batch, key):
        nonlocal traces
        traces += 1
        return inner(params, frozen, batch, key)

    optimizer = optimizers.make(OptimizerConfig(), 10)
    update = make_update(loss, optimizer, seed=0)
    state = replicate(init_state(init_params(TINY, jax.random.key(0)), optimizer))
    counts = []
    for step in range(4):
        state, _ = update(state, {}, shard(packed_batch(2, seed=step)))
        counts.append(traces)
    assert counts[0] == counts[-1]


PMAP_SCRIPT = """
import sys
import jax
devices = int(sys.argv[1])
jax.config.update("jax_num_cpu_devices", devices)
import numpy as np
from notagen_jax.model import init_params
from tests.test_train_step import TINY, packed_batch
from train import optimizer as optimizers
from train.config import OptimizerConfig
from train.likelihood import likelihood_loss
from train.step import init_state, make_update, replicate, shard, unreplicate
assert jax.local_device_count() == devices
optimizer = optimizers.make(OptimizerConfig(1e-4, warmup_steps=2, clip=1.0), 10)
update = make_update(likelihood_loss(TINY), optimizer, seed=0)
state = replicate(init_state(init_params(TINY, jax.random.key(0)), optimizer))
losses = []
for step in range(10):
    state, metrics = update(state, {}, shard(packed_batch(4, seed=step)))
    losses.append(float(metrics["loss"]))
leaves = jax.tree_util.tree_leaves_with_path(unreplicate(state).params)
np.savez(sys.argv[2], losses=losses, **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})
"""


def test_four_devices_equal_one(tmp_path: Path):
    results = []
    for devices in (1, 4):
        out = tmp_path / f"{devices}.npz"
        root = Path(__file__).parent.parent
        subprocess.run([sys.executable, "-c", PMAP_SCRIPT, str(devices), str(out)], check=True, cwd=root)
        with np.load(out) as arrays:
            results.append({name: arrays[name] for name in arrays.files})
    one, four = results
    assert one["losses"][-1] < one["losses"][0]
    np.testing.assert_allclose(four["losses"], one["losses"], rtol=1e-5)
    for name in one:
        if name.endswith("['qkv']['bias']"):
            # Attention does not depend on the bias of the keys: its gradient is rounding noise, which
            # Adam scales up to whole steps. The queries' and values' biases are compared.
            for found in (one, four):
                found[name] = np.delete(found[name], np.s_[64:128], axis=1)
        np.testing.assert_allclose(four[name], one[name], rtol=0, atol=1e-5, err_msg=name)
