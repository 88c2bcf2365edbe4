"""AdamW and its rate, from an `OptimizerConfig`."""

import optax

from train.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Rate at each step: linear warm-up, then constant, or a cosine to a tenth at step `steps`."""
    peak = config.learning_rate
    if config.decay == "cosine":
        after = optax.cosine_decay_schedule(peak, max(steps - config.warmup_steps, 1), alpha=0.1)
    else:
        after = optax.constant_schedule(peak)
    if not config.warmup_steps:
        return after
    # The first update already moves: rate peak/warmup, as PyTorch's warm-up after its first step.
    rise = optax.linear_schedule(peak / config.warmup_steps, peak, config.warmup_steps - 1)
    return optax.join_schedules([rise, after], [config.warmup_steps])


def make(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` updates, its state a plain tree."""
    adamw = optax.adamw(
        learning_rate(config, steps), b1=0.9, b2=config.beta2, eps=1e-8, weight_decay=config.weight_decay
    )
    if config.clip:
        return optax.chain(optax.clip_by_global_norm(config.clip), adamw)
    return adamw
