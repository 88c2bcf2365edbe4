"""Pre-training of M3 at the published size (113M parameters; CLaMP 2, section 3.2).

    python -m train.m3_pretrain official --run runs/m3 --data.sources FOLDER…

Official batch: 16 pieces × 512 patches on each device, rate 1e-4, 45 % masked; here on 8 accelerators
with 80 GB. The paper reports no held-out loss.
"""

from notagen_jax.clamp2.config import OFFICIAL_M3
from train.clamp2_config import Clamp2RunConfig, ScoreDataConfig
from train.config import OptimizerConfig

CONFIG = Clamp2RunConfig(
    model=OFFICIAL_M3.replace(dtype="bfloat16", remat=True),
    data=ScoreDataConfig(keys="original", rows=128, length=512),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=1000),
    steps=500_000,
    evaluate_every=5000,
    evaluate_rows=512,
)
