"""CLaMP-DPO of the packaged `mini` with the packaged judge, on two CPU cores.

    python -m train.clamp_dpo mini --run runs/mini-clamp-dpo --ground-truth CHORALES LIEDER

CHORALES and LIEDER as in `mini_pretrain`. Five prompts with most ground truth × 40 samples, four chosen
and four rejected of each; 80 updates of two pairs at a rate that moves a small model in so few.
"""

from notagen_jax.config import PRESETS
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.config import OptimizerConfig
from train.dpo.config import DPOConfig

CONFIG = ClampDPOConfig(
    most_prompts=5,
    samples=40,
    evaluation_samples=20,
    sampling=SamplingConfig(max_chars=12_000, batch=16),
    dpo=DPOConfig(
        model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8),
        pairs=2,
        steps=80,
        optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=0, clip=1.0),
        log_every=5,
    ),
)
