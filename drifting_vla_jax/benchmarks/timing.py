"""Honest times: compiled before the clock starts, waited for, and measured in turn with what they are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np


@dataclass(frozen=True)
class Measured:
    """One function's figures.

    Attributes:
      name: of the function.
      compile_s: seconds to trace and compile.
      run_s: seconds of each run, in order.
      temp_mb: megabytes of scratch memory that the compiled program asks for, arguments and results aside.
    """

    name: str
    compile_s: float
    run_s: tuple[float, ...]
    temp_mb: float

    @property
    def median_ms(self) -> float:
        return 1e3 * float(np.median(self.run_s))

    def speedup_over(self, other: Measured) -> float:
        """Median over the rounds of the other's time over ours: what the machine does meanwhile hits both."""
        return float(np.median(np.array(other.run_s) / np.array(self.run_s)))


def measure(functions: Mapping[str, Callable], args: tuple, rounds: int) -> list[Measured]:
    """Compiles each function for ``args``, runs each once, then ``rounds`` times in turn."""
    compiled, compile_s = {}, {}
    for name, function in functions.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(function).lower(*args).compile()
        compile_s[name] = time.perf_counter() - start
        jax.block_until_ready(compiled[name](*args))
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, program in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*args))
            runs[name].append(time.perf_counter() - start)
    return [
        Measured(name, compile_s[name], tuple(runs[name]), compiled[name].memory_analysis().temp_size_in_bytes / 1e6)
        for name in functions
    ]


def format_table(title: str, rows: list[Measured], reference: str) -> str:
    """A markdown table; speed-ups are over the row called ``reference``."""
    base = next(row for row in rows if row.name == reference)
    lines = [
        f"{title}\n",
        "| | median ms | min - max | speed-up | scratch MB | compile s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = 1e3 * min(row.run_s), 1e3 * max(row.run_s)
        lines.append(
            f"| {row.name} | {row.median_ms:.4g} | {low:.4g} - {high:.4g} | {row.speedup_over(base):.2f} | "
            f"{row.temp_mb:.4g} | {row.compile_s:.2f} |"
        )
    return "\n".join(lines) + "\n"
