"""Masked pre-training of a judge's music tower, on one half of the free scores.

    python -m train.m3_pretrain judge --run runs/judge-m3 --data.sources MUSIC21 OPENSCORE

The sources are built data sets (`docs/data.md`); two CPU cores, a quarter of an hour. The packaged judge
does without (its model card).
"""

from notagen_jax.clamp2.config import Clamp2Config
from train.clamp2_config import Clamp2RunConfig, ScoreDataConfig
from train.config import OptimizerConfig

MUSIC_TOWER = Clamp2Config(
    hidden_size=256,
    music_layers=3,
    intermediate_size=1024,
    patch_length=64,
    decoder_layers=1,
    dropout=0.0,
    attention_dropout=0.0,
    unroll=3,
)

CONFIG = Clamp2RunConfig(
    model=MUSIC_TOWER,
    data=ScoreDataConfig(half="first", balance=0.5, keys="uniform", rows=4, length=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=30, decay="cosine", beta2=0.98, clip=1.0),
    steps=300,
    log_every=10,
    evaluate_every=100,
    evaluate_rows=16,
)
