"""CLaMP-DPO of the packaged `mini` with the packaged judge, on two CPU cores.

    python -m train.clamp_dpo mini --run runs/mini-clamp-dpo --ground-truth MUSIC21 OPENSCORE

MUSIC21 and OPENSCORE are the built data sets that `mini` was trained on (its model card). It starts
from `mini-finetuned`, what the packaged model was before CLaMP-DPO. The four prompts with most ground
truth × 50 samples, five chosen and five rejected of each (`--prompts` names others: those of the
table in docs/clamp-dpo.md have pieces that fit the window of `mini`), drawn as `mini` advises: bars whose
voices do not agree are drawn again. Every policy is judged on the samples that the next iteration chooses
from. 100 updates of one pair at a rate that moves a small model in so few. An iteration: about half
a million characters drawn and 100 updates, ten minutes.
"""

from notagen_jax.checkpoints import FINETUNED
from notagen_jax.config import PRESETS
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.config import OptimizerConfig
from train.dpo.config import DPOConfig

CONFIG = ClampDPOConfig(
    checkpoint=FINETUNED,
    most_prompts=4,
    samples=50,
    evaluation_samples=0,
    sampling=SamplingConfig(top_p=0.8, temperature=1.0, bar_attempts=16, max_chars=6_000, batch=64),
    dpo=DPOConfig(
        model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8),
        pairs=1,
        steps=100,
        reference_rows=4,
        optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=0, clip=1.0),
        log_every=5,
    ),
)
