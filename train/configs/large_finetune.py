"""Fine-tuning of a converted official checkpoint on labelled pieces (paper section 3.3).

    notagen convert weights_notagen_large.pth checkpoints/large
    python -m train.finetune large --init checkpoints/large --run runs/large --data.sources FOLDER

For 8 accelerators with 16 GB each: one row × 1,024 patches on each (`python -m eval.memory large
--data.rows 1`: 10.9 GB). On a single one, `--accumulate 8` takes them one by one. bfloat16 arithmetic,
recomputed activations. The paper's fine-tuned large model reaches a perplexity of 1.2151 a character
(0.281 bits).
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["large"].replace(dtype="bfloat16", remat=True, char_chunk=64),
    data=DataConfig(keys="near", prompts=True, rows=8, length=1024),
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=1000),
    steps=100_000,
    evaluate_every=2000,
    samples=SampleConfig(count=8),
)
