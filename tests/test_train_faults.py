"""What may happen to a training: killed, stopped from outside, out of disk, checkpoints half there."""

import resource
import shutil
import signal
import time

import pytest

from eval.kill_test import KillTest, digest, run, start
from notagen_jax import checkpoints
from notagen_jax.checkpoints.training import whole_steps
from notagen_jax.errors import NotaGenError
from tests.train_runs import configuration, stage
from train import loop
from train.checkpointing import model_of_run


def test_a_killed_training_reaches_the_same_parameters(tmp_path):
    assert run(KillTest(times=2, seed=1, steps=50), tmp_path)


def test_a_termination_saves_and_exits_with_0(tmp_path):
    process = start(tmp_path, 1_000_000)
    for line in process.stderr:
        if line.startswith("step 5/"):
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "the same command goes on from here" in said
    assert whole_steps(tmp_path)[-1] >= 5


def test_a_half_written_checkpoint_is_never_chosen(tmp_path):
    config = configuration(tmp_path / "run")
    loop.run(stage(config), config)
    steps = tmp_path / "run" / "checkpoints"
    expected = digest(tmp_path / "run")
    # What a killed save leaves, and what a copy that broke off leaves.
    shutil.copytree(steps / "6", steps / "9.orbax-checkpoint-tmp-1")
    shutil.copytree(steps / "6", steps / "8")
    shutil.rmtree(steps / "8" / "optimizer")
    assert checkpoints.load(tmp_path / "run").source.name == "6"
    assert model_of_run(tmp_path / "run") is not None
    longer = configuration(tmp_path / "run", steps=9, evaluate_every=8)
    loop.run(stage(longer), longer)
    straight = configuration(tmp_path / "straight", steps=9, evaluate_every=8)
    loop.run(stage(straight), straight)
    assert digest(tmp_path / "run") == digest(tmp_path / "straight") != expected
    assert whole_steps(tmp_path / "run") == [6, 8, 9] or whole_steps(tmp_path / "run") == [8, 9]
    assert not list(steps.glob("*tmp*"))


def test_a_full_disk_is_said_and_the_last_checkpoint_lives(tmp_path):
    config = configuration(tmp_path, evaluate_every=2, steps=8)
    begun = stage(config)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filling:
        """Batches that leave no room for any file from step 5 on."""

        fingerprint = begun.train.fingerprint
        names = begun.train.names

        def batches(self, step, process=0, processes=1):
            for count, batch in enumerate(begun.train.batches(step, process, processes), step + 1):
                if count == 5:
                    while 4 not in whole_steps(tmp_path):  # it is written in the background
                        time.sleep(0.05)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
                yield batch

    full = loop.Stage(**{**vars(begun), "train": Filling()})
    try:
        with pytest.raises(NotaGenError, match="cannot write a checkpoint") as failed:
            loop.run(full, config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "the last whole one is of step 4" in str(failed.value)
    assert whole_steps(tmp_path)[-1] == 4
    loop.run(stage(config), config)
    straight = configuration(tmp_path / "straight", evaluate_every=2, steps=8)
    loop.run(stage(straight), straight)
    assert digest(tmp_path) == digest(tmp_path / "straight")
