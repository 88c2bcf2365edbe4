"""Post-training on a classical subset between pre-training and fine-tuning, as NotaGen-X was made.

    python -m train.posttrain large --init runs/large-pretrain --run runs/large-x --data.sources FOLDER

The official code names the stage and not its settings; these are those of pre-training at a tenth of
its rate. For accelerators with 80 GB: 4 rows × 1,024 patches on each of 8; bfloat16 arithmetic,
recomputed activations. Look at the held-out loss of the classical pieces: it should fall below where
pre-training left it, and no number for it is published.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["large"].replace(dtype="bfloat16", remat=True, char_chunk=64),
    data=DataConfig(keys="uniform", rows=32, length=1024),
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=1000),
    steps=100_000,
    evaluate_every=2000,
    samples=SampleConfig(count=8),
)
