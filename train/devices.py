"""Where the arrays of a run lie and how a step runs over them: copies under `pmap`, or a mesh under `jit`.

Either way the state is a tree of ordinary arrays over all devices of all processes, so a checkpoint
that one kind wrote is read by the other, on any number of devices.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from notagen_jax.errors import NotaGenError
from train.config import DeviceConfig
from train.step import AXIS, Loss, LossSums, Params, TrainState, make_evaluate, make_update

HostBatch = dict[str, np.ndarray]
Update = Callable[[TrainState, Params, Any, Any], tuple[TrainState, dict[str, jax.Array]]]
Evaluate = Callable[[Params, Params, Any], LossSums]


def connect(config: DeviceConfig) -> None:
    """Join the other processes of a run; call it before anything touches a device.

    Raises `NotaGenError` when they cannot be found or reached.
    """
    if config.processes == 1:
        return
    try:
        if config.processes:
            jax.distributed.initialize(config.coordinator, config.processes, config.process)
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise NotaGenError(
            f"cannot join the processes of this run ({error}); check devices.coordinator, "
            "devices.processes and devices.process, and that all processes were started"
        ) from error


def split_axis(shape: tuple[int, ...], ways: int) -> int | None:
    """The axis of a parameter that is split over `ways` devices: the largest that they divide.

    None where no axis divides. Of equal axes the last is taken.
    """
    if ways == 1:
        return None
    fitting = [axis for axis, size in enumerate(shape) if size % ways == 0]
    return max(fitting, key=lambda axis: (shape[axis], axis), default=None)


class Devices:
    """All devices of a run, of either kind."""

    def __init__(self, config: DeviceConfig) -> None:
        """Raises `NotaGenError` when the devices do not divide by `fsdp`."""
        self.process, self.processes = jax.process_index(), jax.process_count()
        self.count = jax.device_count()
        self._mapped = config.kind == "pmap"
        self._split_from = config.split_from
        if self._mapped:
            self.fsdp = 1
            self._mesh = Mesh(np.array(jax.devices()), (AXIS,))
            return
        self.fsdp = config.fsdp or self.count
        if self.count % self.fsdp:
            raise NotaGenError(f"devices.fsdp ({self.fsdp}) must divide the number of devices ({self.count})")
        self._mesh = jax.make_mesh(
            (self.count // self.fsdp, self.fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2
        )

    def __str__(self) -> str:
        platform = jax.devices()[0].platform
        hosts = f" on {self.processes} processes" if self.processes > 1 else ""
        kind = "pmap" if self._mapped else f"mesh data {self.count // self.fsdp} × fsdp {self.fsdp}"
        return f"{self.count} {platform} device(s){hosts}, {kind}"

    def shardings(self, tree: Any) -> Any:
        """How each array of a tree (or of its shapes) is split: a large one by `split_axis` over `fsdp`."""

        def of(leaf: Any) -> NamedSharding:
            shape = np.shape(leaf)
            large = math.prod(shape) >= self._split_from
            axis = split_axis(shape, self.fsdp) if large else None
            names = ["fsdp" if number == axis else None for number in range(len(shape))]
            return NamedSharding(self._mesh, PartitionSpec(*names))

        return jax.tree.map(of, tree)

    def place(self, tree: Any) -> Any:
        """The arrays of a tree, which every process holds whole, on their devices."""

        def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, tree, self.shardings(tree))

    def start(self, params: Params, optimizer: optax.GradientTransformation) -> TrainState:
        """The state before the first update."""
        placed = self.place(params)
        shardings = self.shardings(jax.eval_shape(optimizer.init, placed))
        first = jax.jit(optimizer.init, out_shardings=shardings)(placed)
        return TrainState(self.place(np.zeros((), np.int32)), placed, first)

    def shapes(self, params: Params, optimizer: optax.GradientTransformation) -> TrainState:
        """Shapes, types and places of the state, without its arrays."""

        def start(params: Params) -> TrainState:
            return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

        return self.like(jax.eval_shape(start, params))

    def like(self, shapes: Any) -> Any:
        """Shapes and types with the places that `place` would give their arrays."""
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self.shardings(shapes),
        )

    def rows(self, batch: HostBatch, parts: int = 1) -> Any:
        """This process's rows of a batch, leaves (r, …), spread over its devices.

        Raises `NotaGenError` when they do not divide, or not into `parts` on each device.
        """
        local = jax.local_device_count()
        for name, array in batch.items():
            if len(array) % (local * parts):
                raise NotaGenError(
                    f"{len(array) * self.processes} rows of {name} in a batch: they must be a multiple of "
                    f"devices × accumulate ({self.count} × {parts})"
                )
        if self._mapped:
            return {name: array.reshape(local, -1, *array.shape[1:]) for name, array in batch.items()}
        spread = NamedSharding(self._mesh, PartitionSpec(("data", "fsdp")))
        return {name: jax.make_array_from_process_local_data(spread, array) for name, array in batch.items()}

    def wishes(self, **wishes: bool) -> Any:
        """What this process asks of all, by name, as a batch of the update with a row for each device."""
        count = jax.local_device_count()
        return self.rows({name: np.full(count, wish, np.float32) for name, wish in wishes.items()})

    def share(self, batch: HostBatch) -> HostBatch:
        """This process's contiguous share of a whole batch's rows."""
        return {name: np.array_split(array, self.processes)[self.process] for name, array in batch.items()}

    def update(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        seed: int,
        accumulate: int,
        state: TrainState,
    ) -> Update:
        """The compiled update of `train.step` over rows from `rows`; it reuses the state's buffers.

        `state` is a state to come, or its shapes.
        """
        update = make_update(loss, optimizer, seed, accumulate, self._mapped)
        if self._mapped:
            return jax.pmap(update, AXIS, in_axes=(None, None, 0, 0), out_axes=None, donate_argnums=0)
        whole = NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(update, donate_argnums=0, out_shardings=(self.shardings(state), whole))

    def evaluate(self, loss: Loss) -> Evaluate:
        """The compiled evaluation of `train.step` over rows from `rows`."""
        evaluate = make_evaluate(loss, self._mapped)
        if self._mapped:
            return jax.pmap(evaluate, AXIS, in_axes=(None, None, 0), out_axes=None)
        return jax.jit(evaluate, out_shardings=NamedSharding(self._mesh, PartitionSpec()))

    def everywhere(self, tree: Any) -> Any:
        """The arrays of a state as arrays over all processes, which checkpoints are written from.

        Under `pmap` a process sees only its own copies; they are wrapped, not copied.
        """
        if not self._mapped or self.processes == 1:
            return tree
        whole = NamedSharding(self._mesh, PartitionSpec())
        return jax.tree.map(
            lambda x: jax.make_array_from_single_device_arrays(
                x.shape, whole, [shard.data for shard in x.addressable_shards]
            ),
            tree,
        )

    def here(self, tree: Any) -> Any:
        """The whole arrays on this process's first device; every process must ask."""
        if not self._mapped:
            whole = NamedSharding(self._mesh, PartitionSpec())
            tree = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
        return jax.tree.map(lambda x: x.addressable_data(0), tree)
