"""What this machine is and what it could do at best: its name, its load, and its matrix products in the same run.

The roof over a network's time is how fast the machine multiplies matrices at all. It is measured beside the work (a
processor shared with others has no fixed speed), over a few shapes of which the fastest counts. On an accelerator whose
published peak is known the share of that is reported too: the usual MFU.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from drifting_vla_jax.benchmarks.timing import Case, Measured, compiled, contest

SHAPES = {"cpu": ((1028, 1024, 4096), (1028, 1024, 1024), (2048, 2048, 2048)), "gpu": ((8192, 8192, 8192),)}
PEAK, TIMES = "matrix product", 5  # products in a run
# Dense bfloat16, operations per second, from the makers' data sheets.
PUBLISHED = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "TPU v4": 275e12, "TPU v5 lite": 197e12}


def describe() -> str:
    """One line: processor, cores, devices, versions."""
    device = jax.devices()[0]
    return (
        f"{_processor()}, {os.cpu_count()} cores; jax {jax.__version__} on {len(jax.devices())} x {device.device_kind}; "
        f"Python {platform.python_version()}"
    )


def _processor() -> str:
    """The processor's own name, where the system tells."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def matrix_product(dtype: str, rounds: int = 3) -> Case:
    """The fastest of a few shapes, to run beside work of that dtype."""
    rng = np.random.default_rng(0)

    def product(m, k, n):
        a, b = (jnp.asarray(rng.standard_normal(shape, np.float32), dtype) for shape in ((m, k), (k, n)))
        name = f"{PEAK}, {dtype}, {m} x {k} x {n}"
        return compiled(name, jnp.matmul, (a, b), times=TIMES, flops=2 * m * k * n)

    tried = [product(*shape) for shape in SHAPES.get(jax.default_backend(), SHAPES["gpu"])]
    rows = contest("", tried, rounds).rows
    best = max(rows, key=lambda row: row.flops / row.median_s)
    return next(c for c in tried if c.name == best.name)


def peak_share(row: Measured, peak: Measured) -> float:
    """Median over the rounds of the row's operations per second over the product's."""
    return row.flops / peak.flops * row.speedup_over(peak)


def mfu(row: Measured) -> float | None:
    """Share of the device's published bfloat16 peak; None where it is not known, or the row's operations are not."""
    known = [peak for name, peak in PUBLISHED.items() if name in jax.devices()[0].device_kind]
    return row.flops / row.median_s / known[0] if known and row.flops else None


def memory_mb(key: str = "VmRSS") -> float:
    """This process's memory, from the kernel: VmRSS now, VmHWM at its highest. 0 where the system does not tell."""
    told = Path("/proc/self/status")
    lines = told.read_text().splitlines() if told.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)
