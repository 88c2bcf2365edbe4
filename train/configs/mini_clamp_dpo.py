"""CLaMP-DPO of the packaged `mini` with the packaged judge, on two CPU cores.

    python -m train.clamp_dpo mini --run runs/mini-clamp-dpo --ground-truth MUSIC21 OPENSCORE

MUSIC21 and OPENSCORE are the built data sets that `mini` was trained on (its model card). It starts
from `mini-finetuned`, what the packaged model was before CLaMP-DPO. The four prompts with most ground
truth × 80 samples (`--prompts` names others: those of the table in docs/clamp-dpo.md have pieces that fit
the window of `mini`), drawn as `mini` advises: bars whose voices do not agree are drawn again. Every policy
is judged on the samples that the next iteration chooses from.

The paper learns from the best and the worst tenth of 100 samples of each of some hundred prompts. Of four
prompts that is a few dozen pieces, which a policy learns by heart instead of what they have in common: so
here 0.4 of the samples are chosen and as many rejected, and each is seen about once (80 updates of two
pairs). An iteration: about half a million characters drawn and 80 updates, eight to twelve minutes.
"""

from notagen_jax.checkpoints import FINETUNED
from notagen_jax.config import PRESETS
from train.clamp_dpo.config import ClampDPOConfig, SamplingConfig
from train.config import OptimizerConfig
from train.dpo.config import DPOConfig

CONFIG = ClampDPOConfig(
    checkpoint=FINETUNED,
    most_prompts=4,
    samples=80,
    evaluation_samples=0,
    portion=0.4,
    fill=False,
    sampling=SamplingConfig(top_p=0.8, temperature=1.0, bar_attempts=16, max_chars=6_000, batch=16),
    dpo=DPOConfig(
        model=PRESETS["mini"].replace(dropout=0.0, attention_dropout=0.0, unroll=8),
        beta=0.3,
        pairs=2,
        steps=80,
        reference_rows=4,
        optimizer=OptimizerConfig(learning_rate=2e-5, warmup_steps=0, clip=1.0),
        log_every=5,
    ),
)
