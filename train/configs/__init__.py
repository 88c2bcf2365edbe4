"""Experiments by name: the module of each says what it needs and what it should reach."""

from train.config import RunConfig
from train.configs import large_finetune, large_pretrain, mini_finetune, mini_pretrain

PRETRAIN: dict[str, tuple[str, RunConfig]] = {
    "mini": ("8.6M parameters, on a laptop", mini_pretrain.CONFIG),
    "large": ("516M parameters, the paper's setting", large_pretrain.CONFIG),
}
FINETUNE: dict[str, tuple[str, RunConfig]] = {
    "mini": ("from the pre-trained mini, on a laptop", mini_finetune.CONFIG),
    "large": ("from a converted official checkpoint", large_finetune.CONFIG),
}
