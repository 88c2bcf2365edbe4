"""Contrastive training of CLaMP 2 at the published size (370M parameters; CLaMP 2, section 3.3).

    python -m train.clamp2 official --run runs/clamp2 --init runs/m3 --text-init XLM-ROBERTA \
        --tokenizer XLM-ROBERTA --data.sources FOLDER…

XLM-ROBERTA is the folder of FacebookAI/xlm-roberta-base. Official batch: 128 pairs on each device,
rate 5e-5, instrument names hidden nine times of ten; here on 8 accelerators with 80 GB.
"""

from notagen_jax.clamp2.config import OFFICIAL
from train.clamp2_config import Clamp2RunConfig, ScoreDataConfig
from train.config import OptimizerConfig

CONFIG = Clamp2RunConfig(
    model=OFFICIAL.replace(dtype="bfloat16", remat=True),
    data=ScoreDataConfig(keys="original", rows=1024, length=512, hide_instruments=0.9),
    optimizer=OptimizerConfig(learning_rate=5e-5, warmup_steps=1000),
    steps=100_000,
    evaluate_every=2000,
    evaluate_rows=4096,
)
