"""One update as a pure function: the same under `pmap`, over a mesh and on one device.

The loss of a stage returns sums, not means: gradients are summed over micro-batches and devices and
divided once by the total weight, so that any split of a batch gives the gradient of the whole.

Under `pmap` a loss sees the rows of one device; over a mesh, or on one device, all rows (of one
micro-batch). One that compares rows with each other, such as a contrastive loss, reads those of all
devices with `global_rows` and sums over its own rows only; it allows no accumulation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any
Batch = dict[str, jax.Array]

AXIS = "data"


class LossSums(NamedTuple):
    """Sums over the rows that a loss was given, float32 scalars."""

    total: jax.Array
    """Sum of the losses."""
    weight: jax.Array
    """What the total is divided by for the mean: characters, pieces or pairs."""
    metrics: dict[str, jax.Array]
    """Further sums that are reported divided by the weight."""


Loss = Callable[[Params, Params, Batch, jax.Array | None], LossSums]
"""(params, frozen, batch, dropout key or None) → sums; `frozen` holds arrays that nobody changes."""


class TrainState(NamedTuple):
    """What an update changes."""

    step: jax.Array
    params: Params
    optimizer: optax.OptState


def global_rows(rows: jax.Array) -> jax.Array:
    """The rows of all devices, in the order of the global batch, from this device's: (r, …) → (R, …).

    Gradients flow back to the device that each row came from. Where the loss already sees the whole
    batch, the rows themselves.
    """
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # no such axis: not mapped over devices
        return rows
    return jax.lax.all_gather(rows, AXIS, tiled=True)


def accumulate_gradients(
    loss: Loss, params: Params, frozen: Params, batch: Batch, key: jax.Array, pieces: int
) -> tuple[LossSums, Params]:
    """Sums of a batch and the gradient of its total, over `pieces` equal parts of the batch."""

    def total(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, LossSums]:
        sums = loss(params, frozen, batch, key)
        return sums.total, sums

    def part(carry: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        (_, sums), gradient = jax.value_and_grad(total, has_aux=True)(params, *inputs)
        return jax.tree.map(jnp.add, carry, (sums, gradient)), None

    if pieces == 1:
        (_, sums), gradient = jax.value_and_grad(total, has_aux=True)(params, batch, key)
        return sums, gradient
    # Part i takes the rows i, i + pieces, …, so that rows stay on the device that holds them.
    parts = jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), batch)
    keys = jax.random.split(key, pieces)
    shapes = jax.eval_shape(loss, params, frozen, *jax.tree.map(lambda x: x[0], (parts, keys)))
    zero = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (shapes, params))
    carry, _ = jax.lax.scan(part, zero, (parts, keys))
    return carry


def make_update(
    loss: Loss, optimizer: optax.GradientTransformation, seed: int, accumulate: int = 1, mapped: bool = False
) -> Callable[[TrainState, Params, Batch, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The update (state, frozen, batch, wishes) → (state, metrics), to be compiled by `train.devices`.

    `mapped` says that it runs under `pmap` with the axis `AXIS`, on one device's rows. Metrics are
    float32 scalars: loss (mean), weight, grad_norm, update_norm, param_norm, the means of the loss's
    own, and the sums of `wishes`, float32 (devices,) each: what processes ask for, so that all of them
    learn it at the same step. The dropout key is a function of (seed, step) and of the device.
    """

    def over_devices(tree: Any) -> Any:
        return jax.lax.psum(tree, AXIS) if mapped else tree

    def update(
        state: TrainState, frozen: Params, batch: Batch, wishes: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if mapped:
            key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        sums, gradient = over_devices(
            accumulate_gradients(loss, state.params, frozen, batch, key, accumulate)
        )
        scale = 1.0 / jnp.maximum(sums.weight, 1.0)
        gradient = jax.tree.map(lambda g: g * scale, gradient)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": sums.total * scale,
            "weight": sums.weight,
            "grad_norm": optax.global_norm(gradient),
            "update_norm": optax.global_norm(updates),
            "param_norm": optax.global_norm(params),
            **{name: value * scale for name, value in sums.metrics.items()},
            **{name: over_devices(value.sum()) for name, value in wishes.items()},
        }
        return TrainState(state.step + 1, params, optimizer_state), metrics

    return update


def make_evaluate(loss: Loss, mapped: bool = False) -> Callable[[Params, Params, Batch], LossSums]:
    """The evaluation (params, frozen, batch) → sums over all rows, without dropout, to be compiled."""

    def evaluate(params: Params, frozen: Params, batch: Batch) -> LossSums:
        sums = loss(params, frozen, batch, None)
        return jax.lax.psum(sums, AXIS) if mapped else sums

    return evaluate
