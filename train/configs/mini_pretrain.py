"""Pre-training of the packaged `mini` on chorales and songs, in 15 keys, without prompts.

    python -m train.pretrain mini --run runs/mini-pretrain --data.sources CHORALES LIEDER

CHORALES and LIEDER are the folders that `python -m tfds_builders.build` prints for its `music21`
configuration and for a `folder` of OpenScore Lieder. Two CPU cores.

Batch: 1 row × 512 patches ≈ 6,000 characters an update, chorales six times an epoch.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8, char_chunk=32),
    data=DataConfig(weights=(6, 1), keys="uniform", rows=1, length=512),
    optimizer=OptimizerConfig(learning_rate=7e-4, warmup_steps=100, decay="constant", beta2=0.98, clip=1.0),
    steps=500,
    evaluate_every=250,
    evaluate_rows=12,
    samples=SampleConfig(count=4, patches=300, minutes=1.0),
)
