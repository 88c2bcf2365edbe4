"""One update, replicated over the local devices under `pmap`.

The loss of a stage returns sums, not means: gradients are summed over micro-batches and devices and
divided once by the total weight, so that any split of a batch gives the gradient of the whole.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any
Batch = dict[str, jax.Array]
LossSum = Callable[[Params, Batch, jax.Array | None], tuple[jax.Array, jax.Array]]
"""(params, batch, dropout key or None) → (sum of losses, total weight), float32 scalars."""

AXIS = "data"


class TrainState(NamedTuple):
    """What an update changes."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first update, with the optimizer's state made under jit."""
    return TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params))


def accumulate_gradients(
    loss: LossSum, params: Params, batch: Batch, key: jax.Array, pieces: int
) -> tuple[jax.Array, jax.Array, Params]:
    """Sum of losses, total weight and gradient of the sum, over `pieces` equal parts of the batch."""

    def part(carry: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        (total, weight), gradient = jax.value_and_grad(loss, has_aux=True)(params, *inputs)
        return jax.tree.map(jnp.add, carry, (total, weight, gradient)), None

    if pieces == 1:
        (total, weight), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        return total, weight, gradient
    parts = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), batch)
    zero = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    sums, _ = jax.lax.scan(part, zero, (parts, jax.random.split(key, pieces)))
    return sums


def make_update(
    loss: LossSum, optimizer: optax.GradientTransformation, seed: int, accumulate: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The update over all local devices: (state, batch of whole rows) → (state, metrics).

    Batch leaves are (rows, …) with rows a multiple of the device count; the state is replicated, and
    its buffers are reused. Metrics are float32 scalars: loss (mean, nats), weight, grad_norm,
    update_norm, param_norm. The dropout key is a function of (seed, step, device).
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        sums = accumulate_gradients(loss, state.params, batch, key, accumulate)
        total, weight, gradient = jax.lax.psum(sums, AXIS)
        scale = 1.0 / jnp.maximum(weight, 1.0)
        gradient = jax.tree.map(lambda g: g * scale, gradient)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": total * scale,
            "weight": weight,
            "grad_norm": optax.global_norm(gradient),
            "update_norm": optax.global_norm(updates),
            "param_norm": optax.global_norm(params),
        }
        return TrainState(state.step + 1, params, optimizer_state), metrics

    return jax.pmap(update, AXIS, in_axes=(0, 0), out_axes=(0, None), donate_argnums=0)


def make_evaluate(loss: LossSum) -> Callable[[Params, Batch], tuple[jax.Array, jax.Array]]:
    """(replicated params, batch of whole rows) → sum of losses and weight over all devices."""

    def evaluate(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return jax.lax.psum(loss(params, batch, None), AXIS)

    return jax.pmap(evaluate, AXIS, in_axes=(0, 0), out_axes=None)


def replicate(tree: Any) -> Any:
    """The tree with a leading device axis, one copy on each local device."""
    count = jax.local_device_count()
    copies = jax.pmap(lambda _, leaf: leaf, AXIS, in_axes=(0, None))
    return copies(jnp.zeros(count), tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy of a replicated tree."""
    return jax.tree.map(lambda x: x[0], tree)


def shard(batch: dict[str, Any]) -> dict[str, Any]:
    """Split the rows of a host batch over the local devices: (rows, …) → (devices, rows / devices, …)."""
    count = jax.local_device_count()
    return {name: array.reshape(count, -1, *array.shape[1:]) for name, array in batch.items()}
