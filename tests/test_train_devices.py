"""Eight devices, as copies or as a mesh, against one: the same losses, parameters and checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from notagen_jax.errors import NotaGenError
from train.config import DeviceConfig
from train.devices import split_axis

ROOT = Path(__file__).parent.parent

SCRIPT = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import json
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from notagen_jax import char_chunks
from tests.test_train_step import TINY, packed_batch
from tests.tiny_composer import random_params
from train import optimizer as optimizers
from train.checkpointing import RunCheckpoints
from train.config import DeviceConfig, OptimizerConfig
from train.devices import Devices
from train.likelihood import likelihood_loss
from train.step import LossSums, global_rows

char_chunks.WIDTHS = (16,)  # one program to compile
TINY = TINY.replace(char_chunk=16)
out = Path(sys.argv[2])
optimizer = optimizers.make(OptimizerConfig(1e-4, warmup_steps=2, clip=1.0), 10)
start = random_params(TINY)
loss = likelihood_loss(TINY)

def contrast(params, frozen, batch, key):
    # Each row against all rows, as in a contrastive loss: it needs the rows of every device.
    vectors = batch["patches"][:, :4, :8].reshape(len(batch["patches"]), -1) / 64.0 @ params["w"]
    scores = jnp.tanh(vectors) @ jnp.tanh(global_rows(vectors)).T
    return LossSums(jax.nn.logsumexp(scores, axis=1).sum(), jnp.float32(len(vectors)), {})

def train(name, kind, accumulate=1, wholly=True):
    devices = Devices(kind)
    wishes = devices.wishes(stop=False, save=False)
    update = devices.update(loss, optimizer, 0, accumulate, devices.shapes(start, optimizer))
    state = devices.start(start, optimizer)
    losses = []
    for step in range(10):
        state, metrics = update(state, {}, devices.rows(packed_batch(16, seed=step), accumulate), wishes)
        losses.append(float(metrics["loss"]))
    figures = {"losses": losses}
    if wholly:
        sums = devices.evaluate(loss)(state.params, {}, devices.rows(packed_batch(16)))
        matrix = {"w": np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)}
        first = devices.start(matrix, optimizer)
        _, contrasted = devices.update(contrast, optimizer, 0, 1, first)(
            first, {}, devices.rows(packed_batch(16)), wishes
        )
        figures["evaluated"] = float(sums.total / sums.weight)
        figures["contrast"] = [float(contrasted[key]) for key in ("loss", "grad_norm")]
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(devices.here(state.params)))
    np.savez(
        out / f"{name}.npz", **figures, **{jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    )
    return devices, state

if int(sys.argv[1]) == 1:
    train("one", DeviceConfig())
    sys.exit()
train("data", DeviceConfig("mesh", fsdp=1), wholly=False)
copies, copied = train("pmap", DeviceConfig("pmap"))
mesh, split = train("data-fsdp", DeviceConfig("mesh", fsdp=2, split_from=10_000), accumulate=2)

# Each kind goes on from a checkpoint of the other.
for name, saver, state, other in (("a", copies, copied, mesh), ("b", mesh, split, copies)):
    with RunCheckpoints(out / name, TINY, "data") as checkpoints:
        checkpoints.save(10, saver.everywhere(state), None)
    with RunCheckpoints(out / name, TINY, "data") as checkpoints:
        restored = checkpoints.restore(other.shapes(start, optimizer))
    saved, found = (jax.device_get(d.here(s)) for d, s in ((saver, state), (other, restored)))
    jax.tree.map(np.testing.assert_array_equal, found, saved)
    places = other.shardings(restored)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, place: x.sharding == place, restored, places)))

kernels = split.params["patch_decoder"]["stack"]["blocks"]["qkv"]["kernel"]
moments = split.optimizer[1][0].mu["patch_decoder"]["stack"]["blocks"]["qkv"]["kernel"]
print(kernels.shape, kernels.addressable_data(0).shape, moments.addressable_data(0).shape)
"""


def run(devices: int, out: Path) -> str:
    """Ten updates over so many faked devices; what the script prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(devices), str(out)],
        cwd=ROOT,
        # Compiling costs most of the time here, and what it optimises is not looked at.
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_eight_devices_equal_one(tmp_path):
    run(1, tmp_path)
    assert run(8, tmp_path).splitlines()[-1] == "(2, 64, 192) (2, 64, 96) (2, 64, 96)"
    with np.load(tmp_path / "one.npz") as arrays:
        one = dict(arrays)
    for name in ("pmap", "data", "data-fsdp"):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            found = dict(arrays)
        for figures in found.keys() & {"losses", "evaluated", "contrast"}:
            np.testing.assert_allclose(found[figures], one[figures], rtol=1e-5, err_msg=f"{name} {figures}")
        assert ("contrast" in found) == (name != "data")
        for path in one.keys() - {"losses", "evaluated", "contrast"}:
            value, expected = found[path], one[path]
            if path.endswith("['qkv']['bias']"):
                # Attention does not depend on the bias of the keys: its gradient is rounding noise,
                # which Adam scales up to whole steps. The queries' and values' biases are compared.
                value, expected = (np.delete(array, np.s_[64:128], axis=1) for array in (value, expected))
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5, err_msg=f"{name} {path}")


def test_parameters_are_split_by_their_largest_axis_that_divides():
    assert split_axis((20, 1280, 3840), 8) == 2
    assert split_axis((20, 5120, 1280), 8) == 1
    assert split_axis((2, 1280, 1280), 8) == 2
    assert split_axis((2048, 1281), 8) == 0
    assert split_axis((1281, 1283), 8) is None
    assert split_axis((1280, 3840), 1) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fsdp": 2}, "needs --devices.kind mesh"),
        ({"processes": 2}, "coordinator"),
        ({"processes": 2, "process": 2, "coordinator": "host:1"}, "devices.process must be from 0"),
        ({"kind": "mesh", "fsdp": -1}, "must not be negative"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(NotaGenError, match=message):
        DeviceConfig(**settings)
