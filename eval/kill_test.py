"""Kill a training again and again, and compare its parameters with those of an undisturbed one.

    python -m eval.kill_test --times 20

A tiny model trains on made-up pieces with dropout on, saving all the time. It is killed (SIGKILL) at
random moments: while it starts, restores, trains and saves. The same command goes on each time. At the
end the parameters must be those of a training that nobody touched, bit for bit.
"""

import dataclasses
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import tyro

from notagen_jax.checkpoints import load_training
from notagen_jax.checkpoints.training import whole_steps
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.model import init_params
from train import loop
from train.command import quieten
from train.config import LoopConfig
from train.devices import HostBatch
from train.likelihood import likelihood_loss

MODEL = ModelConfig(64, 1, 1, 32)


@dataclasses.dataclass(frozen=True)
class KillTest:
    """Train, kill, go on, compare."""

    times: int = 20
    """How often the training is killed."""
    seed: int = 0
    """Seed of the moments."""
    out: Path | None = None
    """Folder for both runs; by default a temporary one."""
    steps: int = 400
    """Updates of each training."""
    child: Path | None = None
    """Only train, in this folder: what is killed."""


class MadeUpPieces:
    """Random characters as the `Batches` of the loop: one row of two pieces and padding a step."""

    fingerprint = "made-up"

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[HostBatch]:
        """The batch of update `step`, and so on."""
        while True:
            rng = np.random.default_rng(step)
            patches = rng.integers(3, 128, (processes, MODEL.patch_length, PATCH_SIZE)).astype(np.uint8)
            segments = np.repeat([[1, 2, 0]], [12, 12, 8], axis=1).astype(np.int32)
            yield {"patches": patches[process : process + 1], "segments": segments}
            step += 1

    def names(self, step: int) -> list[str]:
        """No piece has a name."""
        return [f"random characters of seed {step}"]


def train(run: Path, steps: int) -> None:
    """The training that is killed: a rolling checkpoint whenever the last one is written."""
    config = LoopConfig(
        run=run, steps=steps, log_every=1, evaluate_every=50, checkpoint_minutes=1e-6, tensorboard=False
    )
    pieces = MadeUpPieces()
    stage = loop.Stage(
        config=MODEL,
        params=jax.device_get(jax.jit(init_params, static_argnums=0)(MODEL, jax.random.key(0))),
        frozen={},
        loss=likelihood_loss(MODEL),
        train=pieces,
        held_out={"made-up": [next(pieces.batches(10_000))]},
    )
    loop.run(stage, config)


def start(run: Path, steps: int) -> subprocess.Popen[str]:
    """A process that trains in `run`; its lines of progress come through its standard error."""
    command = [sys.executable, "-m", "eval.kill_test", "--child", str(run), "--steps", str(steps)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Let a training end; raises `NotaGenError` with what it said when it fails."""
    _, said = process.communicate()
    if process.returncode:
        raise NotaGenError(f"the training ended with {process.returncode}: {said.strip()[-2000:]}")


def kill_at_random(process: subprocess.Popen[str], rng: random.Random) -> bool:
    """Kill a training in its start or up to two seconds after its first step; False when it ended before."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 4))
    else:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step"):
                break
        time.sleep(rng.uniform(0, 2))
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return not ended


def digest(run: Path) -> str:
    """Digest of a run's last parameters, bit for bit."""
    params = load_training(run).params
    values = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))
    return hashlib.sha256(values).hexdigest()


def run(options: KillTest, out: Path) -> bool:
    """Both trainings in `out`; whether their parameters are equal."""
    finish(start(out / "straight", options.steps))
    rng = random.Random(options.seed)
    killed = 0
    while killed < options.times:
        before = max(whole_steps(out / "killed"), default=0)
        process = start(out / "killed", options.steps)
        if not kill_at_random(process, rng):
            raise NotaGenError(f"the training ended after {killed} kills; give it more --steps")
        killed += 1
        after = max(whole_steps(out / "killed"), default=0)
        print(f"kill {killed}/{options.times}: checkpoint {before} → {after}", file=sys.stderr)
    finish(start(out / "killed", options.steps))
    straight, disturbed = digest(out / "straight"), digest(out / "killed")
    print(f"undisturbed {straight[:16]}, killed {killed} times {disturbed[:16]}")
    return straight == disturbed


def main() -> None:
    """Run the test and exit: 1 when the parameters differ, or with one message on an error."""
    options = tyro.cli(KillTest, prog="python -m eval.kill_test", description=__doc__)
    quieten()
    enable_compilation_cache()
    try:
        if options.child is not None:
            train(options.child, options.steps)
            return
        with tempfile.TemporaryDirectory() as temporary:
            equal = run(options, options.out or Path(temporary))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if not equal:
        print("error: the parameters differ", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
