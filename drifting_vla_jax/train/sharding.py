"""Where every array lives: the mesh, one rule table for parameters, one rule for batches.

    mesh axes   data    the batch is split, parameters are copied
                fsdp    the batch is split, large parameters (and their EMA and optimiser moments) are split too
                tensor  the same batch, matrices split: the first of a pair by columns, the second by rows

A parameter's path is matched against ``RULES`` from the top; the optimiser's moments carry the path of their parameter, so
one table serves the whole train state. A path that no rule matches is an error. What a layer hands on is split along the
batch alone (``models.layers.split_batch``): left to itself the partitioner would rather move activations than weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from drifting_vla_jax.models.layers import BATCH_AXES

DATA, FSDP = BATCH_AXES
TENSOR = "tensor"
TILE = 16  # rows of a bfloat16 tile in a TPU's memory
BATCH = PartitionSpec(BATCH_AXES)

COPY, LARGEST = (), "largest"  # on every device; along the largest axis, over fsdp
RULES = (  # of stacked layers these are the last axes: the first counts layers and is never split
    (r"(^|/)(step|rng|count|ns_coeffs)$", COPY),
    (r"^objective_state(/|$)", COPY),
    (r"/(scale|bias|attention_scale|mlp_scale)$", COPY),
    (r"(^|/)(class|registers|position|view_embedding|step_embedding)$", COPY),
    (r"/(query|key|value|gate|up)/kernel$", (FSDP, TENSOR)),
    (r"/(out|down)/kernel$", (TENSOR, FSDP)),
    (r"/(kernel|embedding|lora_down|lora_up)$", LARGEST),
)


def make_mesh(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of ``config.mesh`` over the devices (all if not given); an axis of -1 takes what the others leave.

    Raises:
      ValueError: the sizes do not multiply to the number of devices, or the batch does not divide over them.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    sizes = [config.mesh.data, config.mesh.fsdp, config.mesh.tensor]
    if sizes.count(-1) == 1:
        rest = math.prod(s for s in sizes if s != -1)
        sizes[sizes.index(-1)] = count // rest if rest and count % rest == 0 else 0
    if math.prod(sizes) != count:
        raise ValueError(
            f"config.mesh (data={config.mesh.data}, fsdp={config.mesh.fsdp}, tensor={config.mesh.tensor}) does not fit "
            f"{count} devices; the sizes must multiply to that number, and one may be -1"
        )
    shares, parts = sizes[0] * sizes[1], config.train.micro_batches
    if config.data.batch_size % (shares * parts):
        raise ValueError(
            f"config.data.batch_size {config.data.batch_size} does not divide over {shares} devices"
            + (f" in {parts} micro-batches" if parts > 1 else "")
        )
    return _mesh(sizes, devices)


def _mesh(sizes: Sequence[int], devices: Sequence[jax.Device]) -> Mesh:
    return jax.make_mesh(tuple(sizes), (DATA, FSDP, TENSOR), axis_types=(AxisType.Auto,) * 3, devices=devices)


def path_name(path: tuple) -> str:
    """ "params/vision/block_0/mlp/up/kernel" from a pytree path."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def partition_spec(path: str, shape: tuple[int, ...], axes: dict[str, int], min_size: int) -> PartitionSpec:
    """How one array is laid out over mesh axes of these sizes.

    An axis that does not divide is not split; parameters of fewer than ``min_size`` elements are copied.

    Raises:
      ValueError: no rule reaches the path.
    """
    rule = next((rule for pattern, rule in RULES if re.search(pattern, path)), None)
    if rule is None:
        raise ValueError(f"no sharding rule reaches parameter {path!r} {shape}; add one to train/sharding.py RULES")
    if rule == COPY or math.prod(shape) < min_size:
        return PartitionSpec()
    first = "/blocks/" in path
    if rule == LARGEST:
        # In shares of whole tiles if there is a choice: otherwise a TPU moves rows to and fro.
        order = sorted(range(first, len(shape)), key=lambda i: (shape[i] % (TILE * axes[FSDP]) > 0, -shape[i]))
        chosen = next((i for i in order if shape[i] % axes[FSDP] == 0), None)
        wanted = [FSDP if i == chosen else None for i in range(len(shape))]
    else:
        wanted = [None] * (len(shape) - len(rule)) + list(rule)
    spec = [name if name and axes[name] > 1 and n % axes[name] == 0 else None for name, n in zip(wanted, shape)]
    return PartitionSpec(*spec) if any(spec) else PartitionSpec()


def state_sharding(abstract_state, mesh: Mesh, config: ConfigDict):
    """A pytree of NamedSharding for a train state (or a part of one) known by shapes alone."""

    def place(path, leaf):
        spec = partition_spec(path_name(path), leaf.shape, dict(mesh.shape), config.mesh.fsdp_min_size)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(place, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are split along their first axis over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put(array, mesh: Mesh):
    """A small array copied to every device."""
    return jax.device_put(array, replicated(mesh))


def single_device_mesh(device: jax.Device | None = None) -> Mesh:
    """One device alone, the first local one if none is given, with the same axis names: a policy acts on one device."""
    return _mesh((1, 1, 1), [device or jax.local_devices()[0]])
