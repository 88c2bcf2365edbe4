"""Contrastive training of the packaged judge, on one half of the free scores.

    python -m train.label_tokenizer --data.sources MUSIC21 OPENSCORE --out runs/label-tokenizer
    python -m train.clamp2 judge --run runs/judge --tokenizer runs/label-tokenizer \
        --data.sources MUSIC21 OPENSCORE

MUSIC21 and OPENSCORE are built data sets (`docs/data.md`); two CPU cores, ten minutes. Every piece is heard
in all 15 keys, which lets it train twice as long before it learns the pieces by heart. `--init
runs/judge-m3` starts from masked pre-training (`m3_judge`). The model card of the packaged judge holds what
both reached.
"""

from train.clamp2_config import Clamp2RunConfig, ScoreDataConfig
from train.config import OptimizerConfig
from train.configs.m3_judge import MUSIC_TOWER

CONFIG = Clamp2RunConfig(
    model=MUSIC_TOWER.replace(
        decoder_layers=0,
        feature_size=256,
        text_vocabulary=512,
        text_hidden_size=128,
        text_layers=2,
        text_intermediate_size=512,
        text_positions=66,
        text_heads=2,
        text_length=64,
        dropout=0.1,
    ),
    data=ScoreDataConfig(half="first", balance=0.5, keys="uniform", rows=32, length=64, hide_instruments=0.9),
    optimizer=OptimizerConfig(learning_rate=7e-4, warmup_steps=20, decay="cosine", beta2=0.98, clip=1.0),
    steps=500,
    log_every=10,
    evaluate_every=50,
    evaluate_rows=96,
)
