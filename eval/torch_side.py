"""PyTorch, the other side of a comparison: whether it is here, on which device, and with whose weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from notagen_jax.checkpoints.layout import OfficialTensor, unstack
from notagen_jax.errors import NotaGenError


def torch_device(asked: str | None = None, otherwise: str = "") -> str:
    """The device of the PyTorch side: the one asked for, else a GPU that PyTorch sees, else "cpu".

    Raises `NotaGenError` when PyTorch or transformers is missing; `otherwise` ends its remedy.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise NotaGenError(
            f"the comparison needs PyTorch and transformers ({error}): "
            f"pip install torch transformers{otherwise}"
        ) from error
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")


def give_weights(model: Any, tensors: Sequence[OfficialTensor], params: Mapping[str, Any]) -> None:
    """Put our parameters into a PyTorch module with the official names; it must have these and no others."""
    import torch

    read = unstack(tensors, params)
    model.load_state_dict({tensor.name: torch.from_numpy(np.array(read(tensor.name))) for tensor in tensors})
