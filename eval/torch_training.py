"""Training in PyTorch, as what ours is timed against: the official loop's form and a tuned one.

The official form is what the published training code does with a batch: full one-hot embedding, eager
attention, 17 positions of every patch that is not padding, fp16 autocast with a loss scaler on a GPU and
float32 on a CPU, PyTorch's default AdamW. The tuned form is what someone who knows PyTorch would make of
it with the same modules: scaled-dot-product attention without masks (padding stands behind the music, so
it needs none), 16 positions, bfloat16 autocast, TF32, the fused AdamW.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from eval.torch_reference import TorchNotaGen
from eval.torch_side import give_weights
from notagen_jax.checkpoints.names import official_tensors
from notagen_jax.config import ModelConfig
from notagen_jax.patches import BOS, PAD

Form = Literal["official", "tuned"]

ATTENTION: dict[Form, str] = {"official": "eager", "tuned": "sdpa"}


def official_loss(model: TorchNotaGen, patches: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean NLL (nats) of patches int64 (B, P, 16) with `real` (B, P) 1 at patches, as the official model
    computes it."""
    encoded = model.patch_level_decoder(patches, real)
    # A patch's vector predicts the next patch: all but each row's last one on one side, all but each
    # row's first on the other.
    followed = real.clone()
    followed[torch.arange(len(real)), real.sum(dim=1) - 1] = 0
    preceded = real.clone()
    preceded[:, 0] = 0
    vectors, targets = encoded[followed == 1], patches[preceded == 1]
    inputs = torch.cat([torch.full_like(targets[:, :1], BOS), targets], dim=1)
    labels = inputs.masked_fill(inputs == PAD, -100)
    visible = (labels != -100).long()
    base = model.char_level_decoder.base
    embedded = base.transformer.wte(inputs)
    embedded = torch.cat([vectors[:, None].to(embedded.dtype), embedded[:, 1:]], dim=1)
    return base(inputs_embeds=embedded, attention_mask=visible, labels=labels).loss


def tuned_loss(model: TorchNotaGen, patches: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The same mean, computed without masks and without the position that predicts nothing."""
    vectors = model.patch_level_decoder(patches)[:, :-1]
    wanted = real[:, 1:] == 1
    targets = patches[:, 1:][wanted]
    logits = model.char_level_decoder(vectors[wanted], targets[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=PAD)


def trainer(
    model: TorchNotaGen,
    form: Form,
    device: str,
    precision: torch.dtype,
    learning_rate: float = 1e-4,
    beta2: float = 0.999,
) -> Callable[[np.ndarray, np.ndarray], float]:
    """An update as a function of patches uint8 (B, P, 16) and real (B, P); it returns the loss (nats).

    precision: float32 for none, else the type of autocast; float16 brings its loss scaler. The loss is
    read at every step, as the official loop does, so that a call returns when the update is done.
    """
    model = model.to(device).train()
    adamw = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, beta2), fused=True if form == "tuned" else None
    )
    scaler = torch.amp.GradScaler(device, enabled=precision == torch.float16)
    loss_of = official_loss if form == "official" else tuned_loss

    def update(patches: np.ndarray, real: np.ndarray) -> float:
        # A setting of the process: the official loop leaves the default, full float32 products.
        torch.set_float32_matmul_precision("high" if form == "tuned" and device != "cpu" else "highest")
        tensors = [torch.from_numpy(np.asarray(a, np.int64)).to(device) for a in (patches, real)]
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            loss = loss_of(model, *tensors)
        scaler.scale(loss).backward()
        scaler.step(adamw)
        scaler.update()
        model.zero_grad(set_to_none=True)
        if device != "cpu":
            torch.cuda.synchronize()
        return loss.item()

    return update


def twin(config: ModelConfig, form: Form, params: Any) -> TorchNotaGen:
    """The model of a form, with the weights of our parameters."""
    model = TorchNotaGen(config, ATTENTION[form])
    give_weights(model, official_tensors(config), params)
    return model
