"""How a training step is laid over devices: a mesh with a data and a model axis, or pmap."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from glc_jax.errors import ConfigError
from glc_jax.training.step import TrainStep

DATA, MODEL = "data", "model"


def make_mesh(
    model_axis: int, batch: int, accumulate: int, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """All devices of all hosts, or those given, as (data, model); model has `model_axis` of them.

    Raises `ConfigError` when that does not divide the devices, or the data axis does not divide
    the parts into which gradient accumulation cuts the batch.
    """
    count = jax.device_count() if devices is None else len(devices)
    if count % model_axis:
        raise ConfigError(f"A model axis of {model_axis} does not divide {count} devices.")
    data_axis = count // model_axis
    if batch % (data_axis * accumulate):
        raise ConfigError(
            f"A batch of {batch} cannot be divided among a data axis of {data_axis} devices and "
            f"{accumulate} accumulated parts; make it a multiple of {data_axis * accumulate}."
        )
    return jax.make_mesh(
        (data_axis, model_axis),
        (DATA, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def parameter_spec(shape: tuple[int, ...], mesh: Mesh, smallest: int) -> PartitionSpec:
    """Shards the last dimension that the model axis divides, of arrays of `smallest` values up.

    The rule looks at shapes only, so a parameter, its running average and its optimiser moments
    are cut alike. Small arrays, and all arrays when the model axis is 1, are replicated.
    """
    parts = mesh.shape[MODEL]
    if parts > 1 and np.prod(shape, dtype=np.int64) >= smallest:
        for axis in reversed(range(len(shape))):
            if shape[axis] % parts == 0:
                return PartitionSpec(*(MODEL if i == axis else None for i in range(len(shape))))
    return PartitionSpec()


def state_shardings(state: Any, mesh: Mesh, smallest: int) -> Any:
    """A NamedSharding for each leaf of a TrainState (of arrays or of shapes)."""
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, parameter_spec(leaf.shape, mesh, smallest)), state
    )


def place_shapes(state: Any, mesh: Mesh, smallest: int) -> Any:
    """A TrainState of shapes, each with where `state_shardings` puts it."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        state,
        state_shardings(state, mesh, smallest),
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis of every array of a batch is cut over the data axis."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def jit_step(step: TrainStep, mesh: Mesh, shardings: Any) -> Any:
    """The step compiled over a mesh. The state's buffers are donated: use the returned one.

    `shardings` is `state_shardings` of the state that will be passed.
    """
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh), replicated(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def pmap_step(step: TrainStep) -> Any:
    """The step under `jax.pmap`, for a step made with `axis_name=DATA`.

    State and metrics have a leading device axis, batches the shape [devices, B / devices, ...];
    key and networks are given once.
    """
    return jax.pmap(step, axis_name=DATA, in_axes=(0, 0, None, None))


def data_shard(mesh: Mesh) -> tuple[int, int]:
    """Which part of every batch this host reads: (number of the part, number of parts).

    Hosts whose devices hold the same rows of the batch, because a model axis goes over several
    hosts, read the same part. Raises `ConfigError` where the rows do not fall into equal parts.
    """
    processes = np.array([[device.process_index for device in row] for row in mesh.devices])
    return shard_of(processes, jax.process_index())


def shard_of(processes: np.ndarray, process: int) -> tuple[int, int]:
    """`data_shard` of one process, from the process of each device: int [data, model]."""
    rows = {
        number: np.flatnonzero((processes == number).any(axis=1)) for number in np.unique(processes)
    }
    mine = rows[process]
    parts = len(processes) // len(mine)
    for held in rows.values():
        first, count = held[0], len(held)
        if count != len(mine) or first % count or not (np.diff(held) == 1).all():
            raise ConfigError(
                "The hosts' devices do not divide the batch into equal parts: change mesh.model, "
                f"so that each host has all or the same share of a row of {processes.shape[1]}."
            )
    return int(mine[0] // len(mine)), parts


def union(numbers: Sequence[int]) -> list[int]:
    """The numbers that any host gave, on every host; all of them must call it."""
    if jax.process_count() == 1:
        return sorted(numbers)
    count = multihost_utils.process_allgather(np.int32(len(numbers)))
    padded = np.full(count.max(), -1, np.int64)
    padded[: len(numbers)] = numbers
    return sorted({*multihost_utils.process_allgather(padded).reshape(-1).tolist()} - {-1})


def global_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch -> arrays that stand for the whole batch of all hosts."""
    sharding, (_, parts) = batch_sharding(mesh), data_shard(mesh)
    return {
        name: jax.make_array_from_process_local_data(
            sharding, value, (len(value) * parts, *value.shape[1:])
        )
        for name, value in batch.items()
    }
