"""The DPO stage: the same sums on any devices, adapters, and its command."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from notagen_jax.checkpoints import Checkpoint
from notagen_jax.errors import NotaGenError
from notagen_jax.lora import LoraConfig
from tests.tiny_composer import CONFIG, PROMPTS, random_params, text
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.config import OptimizerConfig
from train.dpo.__main__ import run as command
from train.dpo.config import DPOConfig, DPORun
from train.dpo.preferences import Preference
from train.dpo.stage import train_on_preferences

ROOT = Path(__file__).parent.parent


def preferences() -> list[Preference]:
    """Two chosen and two rejected pieces of each prompt."""
    return [
        Preference(prompt.composer, f"{prompt.composer}-{n}", verdict, text(prompt, bar, bar))
        for prompt in PROMPTS
        for n, (verdict, bar) in enumerate(
            [("chosen", "CDEC"), ("chosen", "CEDC"), ("rejected", "GABG"), ("rejected", "BAGB")]
        )
    ]


def start() -> Checkpoint:
    return Checkpoint(CONFIG, random_params(CONFIG), Path("random"), PROMPTS)


def configuration(**changes: object) -> DPOConfig:
    settings = dict(
        model=CONFIG,
        pairs=2,
        steps=3,
        optimizer=OptimizerConfig(1e-3, warmup_steps=0, clip=1.0),
        log_every=1,
        tensorboard=False,
    )
    return DPOConfig(**{**settings, **changes})


DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
from notagen_jax.dpo import LogProbs, Pairs, dpo_of_pairs
from tests.test_dpo_stage import CONFIG, preferences, start
from train.config import DeviceConfig
from train.devices import Devices
from train.dpo.pairs import PairLoader, encode
from train.dpo.stage import preference_loss

pieces = encode(preferences(), CONFIG.patch_length, 0)
params = start().params
pairs = PairLoader(pieces, -30.0 * np.arange(len(pieces)), 4, CONFIG.patch_length, 0)
batch = next(pairs.batches(0))
whole = Pairs(batch["patches"][:, 0], batch["patches"][:, 1])
expected, _ = jax.jit(dpo_of_pairs, static_argnums=0)(CONFIG, params, LogProbs(*batch["reference"].T), whole)
for kind in ("pmap", "mesh"):
    devices = Devices(DeviceConfig(kind=kind))
    assert devices.count == 2
    sums = devices.evaluate(preference_loss(CONFIG))(devices.place(params), {}, devices.rows(batch))
    assert float(sums.weight) == 4.0
    np.testing.assert_allclose(float(sums.total) / 4.0, float(expected), rtol=1e-5)
    assert set(sums.metrics) == {"margin", "accuracy", "chosen_log_ratio", "rejected_log_ratio", "penalty"}
print("equal")
"""


def test_pmap_and_mesh_give_the_loss_of_the_pure_function():
    done = subprocess.run(
        [sys.executable, "-c", DEVICES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr


def test_adapters_start_where_the_reference_stands_and_are_merged(tmp_path):
    low_rank = LoraConfig(rank=2, projections=("qkv", "mlp_out"), base_dtype="float32")
    config = configuration(lora=low_rank)
    found = train_on_preferences(config, tmp_path, 0, start(), preferences(), lambda _: None)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, *_, last = [line for line in lines if line["kind"] == "train"]
    assert abs(first["chosen_log_ratio"]) < 1e-3
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert last["margin"] > first["margin"] + 0.1
    changed = jax.tree_util.tree_map_with_path(
        lambda path, a, b: (path[-1].key, bool(np.any(np.asarray(a) != b))), found, start().params
    )
    moved = {
        name for name, moves in jax.tree.leaves(changed, is_leaf=lambda x: isinstance(x, tuple)) if moves
    }
    assert moved == {"kernel"}
    # The run folder says that it holds adapters, and of which model.
    assert json.loads((tmp_path / "adapter.json").read_text())["lora"]["rank"] == 2
    with pytest.raises(NotaGenError, match="this run trains"):
        train_on_preferences(configuration(), tmp_path, 0, start(), preferences(), lambda _: None)
    other = configuration(lora=LoraConfig(rank=4, base_dtype="float32"))
    with pytest.raises(NotaGenError, match="other lora settings"):
        train_on_preferences(other, tmp_path, 0, start(), preferences(), lambda _: None)


def test_the_command_names_what_it_lacks():
    with pytest.raises(NotaGenError, match="give --preferences"):
        command(DPORun(configuration()))


def test_settings_that_cannot_work_are_refused():
    for changes, message in (
        ({"beta": 0.0}, "beta"),
        ({"lam": -1.0}, "lam"),
        ({"pairs": 3, "accumulate": 2}, "multiple of accumulate"),
        ({"steps": 0}, "steps"),
    ):
        with pytest.raises(NotaGenError, match=message):
            configuration(**changes)


def test_every_setting_is_read_by_some_code():
    sources = [path.read_text() for path in (ROOT / "train").rglob("*.py")]
    for kind in (ClampDPOConfig, SamplingConfig, DPOConfig, DPORun):
        for field in dataclasses.fields(kind):
            reads = rf"(config|self|sampling|dpo)\.{field.name}\b|\"{field.name}\""
            assert any(re.search(reads, source) for source in sources), f"{kind.__name__}.{field.name}"
