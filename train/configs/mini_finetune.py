"""Fine-tuning of the packaged `mini`: prompts before the text, keys near the original.

    python -m train.finetune mini --run runs/mini --init runs/mini-pretrain --data.sources MUSIC21 OPENSCORE

Sources and machine as in `mini_pretrain`; two and a half hours. The packaged `mini`, made of more updates
in several stages, the last with pieces of up to 1,000 patches, has held-out losses of 0.36 nats a character
(MUSIC21) and 0.83 (OPENSCORE) on the first 12 rows of such pieces; its model card tells of whole ones.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8, char_chunk=32),
    data=DataConfig(weights=(3, 2), keys="near", prompts=True, longest=300, rows=1, length=512),
    optimizer=OptimizerConfig(learning_rate=6e-4, warmup_steps=100, decay="cosine", beta2=0.98, clip=1.0),
    steps=6000,
    evaluate_every=500,
    evaluate_rows=12,
    samples=SampleConfig(count=4, patches=300, minutes=1.0),
)
