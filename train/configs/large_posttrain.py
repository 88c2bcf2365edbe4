"""Post-training of a pre-trained large model on classical pieces, as NotaGen-X has it.

    python -m train.posttrain large --init runs/large-pretrain --run runs/large-posttrain \\
        --data.sources FOLDER

Between pre-training and fine-tuning: classical pieces alone, in 15 keys, without prompts. The
fine-tuning after it keeps each piece's own key (`--data.keys original`). For accelerators with 80 GB:
one row × 1,024 patches on each of 8. The authors report no held-out loss of this stage.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig

CONFIG = RunConfig(
    model=PRESETS["large"].replace(dtype="bfloat16", remat=True),
    data=DataConfig(keys="uniform", rows=8, length=1024),
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=1000),
    steps=100_000,
    evaluate_every=2000,
)
