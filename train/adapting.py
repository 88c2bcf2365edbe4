"""Where a run of low-rank adapters starts: fresh adapters beside the frozen model that they adapt."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from notagen_jax import checkpoints
from notagen_jax.checkpoints import Checkpoint
from notagen_jax.checkpoints.adapters import ADAPTER_FILE, Adapted, read_adapted, weights_digest
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.lora import LoraConfig, init_adapters
from train.checkpointing import model_of_run
from train.step import Params


def check_kind(run: Path, adapters: LoraConfig | None) -> None:
    """Check that a run that has begun trains adapters, or the model itself, as it is asked to now.

    Raises `NotaGenError` if not.
    """
    if model_of_run(run) is None or (run / ADAPTER_FILE).is_file() == (adapters is not None):
        return
    before = "the model itself" if adapters is not None else "adapters"
    raise NotaGenError(
        f"{run}: this run trains {before}; set lora.rank as it was, or choose another --run folder"
    )


def adapters_and_base(run: Path, adapters: LoraConfig, base: Checkpoint, seed: int) -> tuple[Params, Params]:
    """First adapters, which change nothing yet, and the frozen model in the type that training holds it in.

    Writes `adapter.json` to the run folder. Raises `NotaGenError` when the run there was started with
    other adapters or another model.
    """
    place = base.source.absolute()
    packaged = checkpoints.locate(None)
    name = checkpoints.PACKAGED if place == packaged.absolute() else str(place)
    adapted = Adapted(adapters, base.config, name, weights_digest(base.params))
    description = run / ADAPTER_FILE
    if description.is_file():
        before = read_adapted(description)
        if (before.lora, before.digest) != (adapted.lora, adapted.digest):
            raise NotaGenError(
                f"{run}: this run was started with other lora settings or from another model; set them as "
                "they were, or choose another --run folder"
            )
    elif jax.process_index() == 0:
        write_atomic(description, adapted.to_json())
    first = init_adapters(base.config, adapters, jax.random.key(seed))
    dtype = jnp.dtype(adapters.base_dtype)
    return jax.device_get(first), jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), base.params)
