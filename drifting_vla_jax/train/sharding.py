"""Where every array lives: the mesh, one rule table for parameters, one rule for batches.

    mesh axes   data   the batch is split, parameters are copied
                fsdp   the batch is split, large parameters (and their EMA and optimiser moments) are split too

A parameter's path is matched against ``RULES`` from the top; the optimiser's moments carry the path of their
parameter, so one table serves the whole train state. A path that no rule matches is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

DATA, FSDP = "data", "fsdp"
BATCH = PartitionSpec((DATA, FSDP))

COPY, SPLIT = "copy", "split"
RULES = (
    (r"(^|/)(step|rng|count)$", COPY),
    (r"(^|/)bank/", COPY),
    (r"/(scale|bias|attention_scale|mlp_scale)$", COPY),
    (r"(^|/)(class|registers|position|view_embedding|step_embedding)$", COPY),
    (r"/(kernel|embedding|lora_down|lora_up)$", SPLIT),  # along the largest axis that divides, if large enough
)


def make_mesh(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of ``config.mesh`` over the devices (all if not given); an axis of -1 takes what the others leave.

    Raises:
      ValueError: the sizes do not multiply to the number of devices, or the batch does not divide over them.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    sizes = [config.mesh.data, config.mesh.fsdp]
    if sizes.count(-1) == 1:
        rest = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = count // rest if rest and count % rest == 0 else 0
    if math.prod(sizes) != count:
        raise ValueError(
            f"config.mesh (data={config.mesh.data}, fsdp={config.mesh.fsdp}) does not fit {count} devices; "
            "the sizes must multiply to that number, and one may be -1"
        )
    if config.data.batch_size % count:
        raise ValueError(f"config.data.batch_size {config.data.batch_size} does not divide over {count} devices")
    return jax.make_mesh(tuple(sizes), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=devices)


def path_name(path: tuple) -> str:
    """ "params/vision/block_0/mlp/up/kernel" from a pytree path."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def partition_spec(path: str, shape: tuple[int, ...], fsdp: int, min_size: int) -> PartitionSpec:
    """How one array is laid out over an fsdp axis of that many devices.

    Raises:
      ValueError: no rule reaches the path.
    """
    placement = next((placement for pattern, placement in RULES if re.search(pattern, path)), None)
    if placement is None:
        raise ValueError(f"no sharding rule reaches parameter {path!r} {shape}; add one to train/sharding.py RULES")
    if placement == COPY or fsdp == 1 or math.prod(shape) < min_size:
        return PartitionSpec()
    stacked = "/blocks/" in path  # the first axis counts layers: splitting it would gather all of them at once
    for axis in sorted(range(stacked, len(shape)), key=lambda i: -shape[i]):
        if shape[axis] % fsdp == 0:
            return PartitionSpec(*(FSDP if i == axis else None for i in range(len(shape))))
    return PartitionSpec()


def state_sharding(abstract_state, mesh: Mesh, config: ConfigDict):
    """A pytree of NamedSharding for a train state (or a part of one) known by shapes alone."""

    def place(path, leaf):
        spec = partition_spec(path_name(path), leaf.shape, mesh.shape[FSDP], config.mesh.fsdp_min_size)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are split over every device along their first axis."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put(array, mesh: Mesh):
    """A small array copied to every device."""
    return jax.device_put(array, replicated(mesh))


def single_device_mesh() -> Mesh:
    """The first local device alone, with the same axis names: a policy acts on one device."""
    return jax.make_mesh((1, 1), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=jax.local_devices()[:1])
