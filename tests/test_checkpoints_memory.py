"""The memory that converting a checkpoint takes, measured on a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from notagen_jax.checkpoints.names import TIED, TIED_TO, official_tensors
from notagen_jax.cli import convert
from notagen_jax.config import ModelConfig

torch = pytest.importorskip("torch")

SMALL = ModelConfig(64, 1, 1, 16)
LARGE = ModelConfig(512, 5, 1, 512)
"""About 80 MB in float32, 20 times its largest tensor, as with the official sizes."""
LIMIT = 1.5

MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from notagen_jax.cli import convert

def peak():
    # Not ru_maxrss on Linux, which starts at the peak of the process that started this one.
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large, target = map(Path, sys.argv[1:4])
warm = target.with_stem("warm")
convert.run(convert.Convert(small, warm))
before = peak()
convert.run(convert.Convert(large, target))
used = peak() - before
control = np.ones(2 * int(sys.argv[4]), np.uint8)
print(used, peak() - before)
"""


def write_official(path: Path, config: ModelConfig) -> None:
    """A checkpoint as the official code saves it."""
    state = {tensor.name: torch.rand(tensor.shape) for tensor in official_tensors(config)}
    state[TIED] = state[TIED_TO]
    torch.save({"model": state, "epoch": 1}, path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sizes as official files and as directories in both types."""
    folder = tmp_path_factory.mktemp("sources")
    for name, config in (("small", SMALL), ("large", LARGE)):
        write_official(folder / f"{name}.pth", config)
        convert.run(convert.Convert(folder / f"{name}.pth", folder / name))
        convert.run(convert.Convert(folder / name, folder / f"{name}-half", dtype="bfloat16"))
    return folder


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.parametrize(
    ("suffix", "target", "measure"),
    [
        (".pth", "model", "source"),
        ("", "weights.pth", "source"),
        ("", "model", "source"),
        ("-half", "weights.pth", "target"),
    ],
    ids=["file to directory", "directory to file", "directory to directory", "bfloat16 to file"],
)
def test_converting_stays_within_the_limit(
    tmp_path: Path, sources: Path, suffix: str, target: str, measure: str
):
    small, large = (sources / f"{name}{suffix}" for name in ("small", "large"))
    written = tmp_path / target
    scale = size(sources / "large.pth")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large), str(written), str(scale)],
        capture_output=True,
        text=True,
        check=True,
    )
    used, control = map(int, done.stdout.splitlines()[-1].split())
    assert control > 1.8 * scale, "the measure sees memory that is used"
    assert used <= LIMIT * size(large if measure == "source" else written)
