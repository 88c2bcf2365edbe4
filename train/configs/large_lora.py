"""Low-rank adapters on a converted official checkpoint, for one's own pieces on one's own GPU.

    notagen convert weights_notagen_large.pth checkpoints/large
    python -m train.finetune large-lora --init checkpoints/large --run runs/lora --data.sources FOLDER
    notagen convert runs/lora checkpoints/mine

One GPU with 8 GB: 8 rows × 1,024 patches an update, one at a time (`python -m eval.memory large-lora`:
5.0 GB); bfloat16 arithmetic over a frozen bfloat16 model, recomputed activations, 8.5M trained
parameters. Look at the held-out loss of your own
pieces: it should fall below that of the checkpoint, which the first evaluation is near.
"""

from notagen_jax.config import PRESETS
from notagen_jax.lora import LoraConfig
from train.config import DataConfig, OptimizerConfig, RunConfig, SampleConfig

CONFIG = RunConfig(
    model=PRESETS["large"].replace(dtype="bfloat16", remat=True, char_chunk=64),
    data=DataConfig(keys="near", prompts=True, rows=8, length=1024),
    lora=LoraConfig(rank=16, alpha=32.0),
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=100, clip=1.0),
    accumulate=8,
    steps=5_000,
    evaluate_every=250,
    samples=SampleConfig(count=2),
)
