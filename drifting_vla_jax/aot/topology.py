"""Hardware that is not there: descriptions of TPU slices and H100 nodes that XLA compiles for on any machine.

    v5e:4x4       a TPU slice by its grid of chips, through libtpu (v5e, v6e; v5p has three dimensions)
    h100:8        GPUs in nodes of eight, through the CUDA plugin, without a driver

The compilers read the environment once, when JAX is imported: ``prepare`` comes before that, and this module imports JAX only
after.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass

GIB = 2**30
KNOWN = "v5e:4x4, v5e:16x16, v6e:4x4, v5p:2x2x4 and the like, h100:1, h100:8, h100:16, ..."

# GiB of each chip: of TPUs what a program may use, as the compiler says when one is too large; of an H100 the whole, of which
# JAX takes the share XLA_PYTHON_CLIENT_MEM_FRACTION.
MEMORY = {"v5e": 15.75, "v6e": 31.24, "v5p": 95.73, "h100": 79.1}
_GPUS_PER_NODE = 8

# XLA's GpuTargetConfigProto in its text form, as it stands for this device.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000 device_memory_size: 84929347584 cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 9 }
"""


@dataclass(frozen=True)
class Topology:
    """What ``--topology`` names.

    Attributes:
      kind: "v5e", "h100", ...
      layout: as libtpu ("4x4") or the CUDA plugin (slices x hosts x devices of a host) read it.
    """

    kind: str
    layout: str

    @property
    def gpu(self) -> bool:
        return self.kind == "h100"

    @property
    def memory(self) -> float:
        """Bytes that a program may use on each device; of a GPU what JAX would take in this environment."""
        share = float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", 0.75)) if self.gpu else 1.0
        return share * MEMORY[self.kind] * GIB


def parse(name: str) -> Topology:
    """ "v5e:4x4" or "h100:16".

    Raises:
      ValueError: it is none that is known.
    """
    kind, _, layout = name.partition(":")
    count = int(layout) if layout.isdigit() else 0
    if kind == "h100" and (0 < count <= _GPUS_PER_NODE or (count and count % _GPUS_PER_NODE == 0)):
        hosts = max(1, count // _GPUS_PER_NODE)
        return Topology(kind, f"1x{hosts}x{count // hosts}")
    if kind in MEMORY and kind != "h100" and re.fullmatch(r"\d+(x\d+){1,2}", layout):
        return Topology(kind, layout)
    raise ValueError(f"unknown --topology={name!r}; known are {KNOWN}")


def prepare(topology: Topology) -> None:
    """Sets what the compiler reads from the environment; before JAX is imported.

    Raises:
      ValueError: the compiler is not installed.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"  # nothing runs, and what accelerators there may be are left alone
    if topology.gpu:
        _require("jax_cuda12_plugin", "cuda")
        os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        # Which kernel is fastest is found by running them; without a device XLA takes cuBLAS for products.
        more = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {more}".strip()
        return
    _require("libtpu", "aot")
    # libtpu would ask the cloud's metadata server what machine this is, and lock its one TPU.
    said = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost"}
    os.environ.update(said | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"})


def _require(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"{module} is not installed; it compiles for this topology: pip install '.[{extra}]'")


def devices(topology: Topology) -> list:
    """The devices of a topology, for a mesh; arrays cannot be put there.

    Raises:
      ValueError: there is no such slice.
    """
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # in case JAX was imported before ``prepare``
    try:
        if topology.gpu:
            described = topologies.get_topology_desc(platform="cuda", target_config=_H100, topology=topology.layout)
        else:
            described = topologies.get_topology_desc(f"{topology.kind}:{topology.layout}", platform="tpu")
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"no slice {topology.kind}:{topology.layout}: {error}; known are {KNOWN}") from None
    return list(described.devices)
