"""Pre-training of the packaged `mini` on chorales and short songs, in 15 keys, without prompts.

    python -m train.pretrain mini --run runs/mini-pretrain --data.sources MUSIC21 OPENSCORE

MUSIC21 and OPENSCORE are the folders that `python -m tfds_builders.build` prints for these two
configurations of `notagen_classical`. Two CPU cores: about 370 patches a second, so a quarter of an hour.

Batch: 1 row × 512 patches ≈ 6,000 characters an update. Of both sets only pieces of at most 300
patches, most of them chorales and songs.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8, char_chunk=32),
    data=DataConfig(weights=(3, 2), keys="uniform", longest=300, rows=1, length=512),
    optimizer=OptimizerConfig(learning_rate=6e-4, warmup_steps=100, decay="constant", beta2=0.98, clip=1.0),
    steps=500,
    evaluate_every=250,
    evaluate_rows=12,
    samples=SampleConfig(count=4, patches=300, minutes=1.0),
)
