"""Experiments by name: the module of each says what it needs and what it should reach."""

from train.clamp_dpo.config import ClampDPOConfig
from train.config import RunConfig
from train.configs import (
    large_clamp_dpo,
    large_finetune,
    large_lora,
    large_posttrain,
    large_pretrain,
    mini_clamp_dpo,
    mini_finetune,
    mini_pretrain,
)
from train.dpo.config import DPORun

PRETRAIN: dict[str, tuple[str, RunConfig]] = {
    "mini": ("8.6M parameters, on a laptop", mini_pretrain.CONFIG),
    "large": ("516M parameters, the paper's setting", large_pretrain.CONFIG),
}
FINETUNE: dict[str, tuple[str, RunConfig]] = {
    "mini": ("from the pre-trained mini, on a laptop", mini_finetune.CONFIG),
    "large": ("from a converted official checkpoint", large_finetune.CONFIG),
    "large-lora": ("adapters on a converted official checkpoint, on one GPU", large_lora.CONFIG),
}
POSTTRAIN: dict[str, tuple[str, RunConfig]] = {
    "large": ("from a pre-trained model, on a classical subset", large_posttrain.CONFIG),
}
CLAMP_DPO: dict[str, tuple[str, ClampDPOConfig]] = {
    "mini": ("the packaged model and judge, on a laptop", mini_clamp_dpo.CONFIG),
    "large": ("official weights, the paper's setting", large_clamp_dpo.CONFIG),
}
DPO: dict[str, tuple[str, DPORun]] = {
    "mini": ("one iteration of the packaged model", DPORun(dpo=mini_clamp_dpo.CONFIG.dpo)),
    "large": ("one iteration of an official model", DPORun(dpo=large_clamp_dpo.CONFIG.dpo)),
}
