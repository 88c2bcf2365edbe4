"""CLaMP-DPO as in the paper (section 3.4): official weights, every prompt with more than ten pieces.

    notagen convert weights_notagen_pretrain-finetune_….pth checkpoints/finetuned
    python -m train.clamp_dpo large --run runs/clamp-dpo --checkpoint checkpoints/finetuned \
        --clamp2 weights_clamp2_….pth --ground-truth FOLDER…

For one accelerator with 80 GB. Samples: 112 prompts × 100 an iteration, 64 at the same time. Training:
10,000 updates of one pair of up to 2 × 1,024 patches. The paper's average CLaMP 2 score rises from 0.570
to 0.674, 0.708 and 0.730 over three iterations; the official example on Schubert's lieder alone (1,000
samples, one style) from 0.324 to 0.579 and 0.778 over two.
"""

from notagen_jax.config import PRESETS
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.config import OptimizerConfig
from train.dpo.config import DPOConfig

CONFIG = ClampDPOConfig(
    samples=100,
    sampling=SamplingConfig(batch=64),
    dpo=DPOConfig(
        model=PRESETS["large"].replace(dropout=0.0, attention_dropout=0.0, dtype="bfloat16", remat=True),
        beta=0.1,
        lam=10.0,
        pairs=1,
        steps=10_000,
        optimizer=OptimizerConfig(learning_rate=1e-6, warmup_steps=0, clip=1.0),
    ),
)
