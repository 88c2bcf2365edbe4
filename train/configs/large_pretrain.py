"""Pre-training at the paper's largest size (516M parameters, section 3.2).

    python -m train.pretrain large --run runs/large-pretrain --data.sources FOLDER

For accelerators with 80 GB: 4 rows × 1,024 patches on each of 8, as the paper's 8 H800. bfloat16
arithmetic, recomputed activations. The paper reports no held-out loss of this stage.
"""

from notagen_jax.config import PRESETS
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["large"].replace(dtype="bfloat16", remat=True, char_chunk=64),
    data=DataConfig(keys="uniform", rows=32, length=1024),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=1000),
    steps=1_000_000,
    evaluate_every=5000,
    samples=SampleConfig(count=8),
)
