"""Two processes that train together, are stopped and go on, as copies and as a mesh."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from notagen_jax import checkpoints
from notagen_jax.checkpoints.training import whole_steps
from tests.train_runs import MODEL, configuration, stage
from train import loop
from train.config import DataConfig, OptimizerConfig

ROOT = Path(__file__).parent.parent

SCRIPT = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 2)
from train.config import DeviceConfig
from train.devices import connect
process, address, run, kind, stop_at = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
split = {"fsdp": 2, "split_from": 10_000} if kind == "mesh" else {}
devices = DeviceConfig(kind, processes=2, process=process, coordinator=address, **split)
connect(devices)
from tests.test_train_processes import settings
from tests.train_runs import stage
from train import loop
config = settings(Path(run), devices=devices)
# Only the second process is asked to stop.
loop.run(stage(config, stop_at if process == 1 else 0), config)
"""


def settings(run, **changes):
    """Four rows, so that two processes of two devices have one each; no dropout, whose keys differ."""
    return configuration(
        run,
        model=MODEL.replace(dropout=0.0, attention_dropout=0.0),
        data=DataConfig(rows=4, length=64),
        optimizer=OptimizerConfig(1e-4, warmup_steps=2, clip=1.0),
        evaluate_every=100,
        **changes,
    )


def train_together(run: Path, kind: str, stop_at: int = 0) -> list[str]:
    """What two processes, started together, write to standard error."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    # Compiling costs most of the time here, and what it optimises is not looked at.
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(number), address, str(run), kind, str(stop_at)],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text
    return said


def test_two_processes_stop_and_go_on(tmp_path):
    run = tmp_path / "two"
    first, second = train_together(run, "mesh", stop_at=1)
    assert "stopped at step 2" in first
    assert "loss" not in second
    assert whole_steps(run) == [2]
    train_together(run, "pmap")
    assert whole_steps(run) == [2, 6]
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]

    alone = settings(tmp_path / "one")
    held_out = loop.run(stage(alone), alone)
    expected = [json.loads(line) for line in (alone.run / "log.jsonl").read_text().splitlines()]
    losses, expected_losses = (
        [record["loss"] for record in lines if record["kind"] == "train"] for lines in (records, expected)
    )
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert abs(records[-1]["held_out"] / held_out["held_out"] - 1) < 1e-5
    found, straight = checkpoints.load(run).params, checkpoints.load(alone.run).params
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(straight), strict=True
    ):
        name = jax.tree_util.keystr(path)
        if name.endswith("['qkv']['bias']"):
            # The bias of the keys has no effect: its gradient is rounding noise that Adam scales up.
            a, b = (np.delete(array, np.s_[64:128], axis=1) for array in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5, err_msg=name)
