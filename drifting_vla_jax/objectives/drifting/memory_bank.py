"""More positives: recent expert chunks of the same task, weighted by how alike the observations are.

One expert chunk per observation says little about a distribution. The bank keeps, on the device and in a fixed size,
the latest chunks of every task with a summary of what was seen; an observation draws all of its task's entries as extra
positives, each weighted by exp(-(distance / (bandwidth * mean distance))^2 / 2) in the space of the summaries. Training
fills it, one batch a step; it starts empty, and an empty place weighs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from drifting_vla_jax.core.ranges import Number, whole
from drifting_vla_jax.objectives.drifting.affinity import distances


@dataclass(frozen=True)
class BankSettings:
    """``config.objective.drifting.memory_bank``.

    Attributes:
      size: entries kept per task; 0: no bank.
      bandwidth: of an entry's weight, in mean distances of summaries.
    """

    size: Annotated[int, whole(0, 10**6)]
    bandwidth: Annotated[float, Number(0.0, 1e4, "(]")]


@struct.dataclass
class ExtraPositives:
    """Extra positives of b observations: k chunks in network units, and the importance of each."""

    chunk: Float[Array, "b k h a"]
    weight: Float[Array, "b k"]


@struct.dataclass
class MemoryBank:
    """A ring of k entries per task.

    Attributes:
      summary: what was seen, as the network condensed it then.
      chunk, mask: the expert's actions, network units, and which of them count.
      written: entries ever written, per task.
    """

    summary: Float[Array, "task k d"]
    chunk: Float[Array, "task k h a"]
    mask: Float[Array, "task k h a"]
    written: Int[Array, " task"]


def empty(tasks: int, size: int, d: int, h: int, a: int) -> MemoryBank:
    """``size`` empty places for each task."""
    chunk = jnp.zeros((tasks, size, h, a))
    return MemoryBank(jnp.zeros((tasks, size, d)), chunk, chunk, jnp.zeros(tasks, jnp.int32))


def add(
    bank: MemoryBank,
    task: Int[Array, " b"],
    summary: Float[Array, "b d"],
    chunk: Float[Array, "b h a"],
    mask: Float[Array, "b h a"],
) -> MemoryBank:
    """The bank with a batch written over the oldest entries of its tasks."""
    size = bank.summary.shape[1]
    mine = jax.nn.one_hot(task, len(bank.written), dtype=jnp.int32)
    rank = jnp.take_along_axis(jnp.cumsum(mine, axis=0), task[:, None], axis=1)[:, 0] - 1
    count = jnp.sum(mine, axis=0)
    place = (bank.written[task] + rank) % size
    place = jnp.where(rank >= count[task] - size, place, size)  # of more than the ring holds, the first are dropped
    return MemoryBank(
        summary=bank.summary.at[task, place].set(summary.astype(jnp.float32), mode="drop"),
        chunk=bank.chunk.at[task, place].set(chunk, mode="drop"),
        mask=bank.mask.at[task, place].set(mask, mode="drop"),
        written=bank.written + count,
    )


def neighbours(
    bank: MemoryBank,
    task: Int[Array, " b"],
    summary: Float[Array, "b d"],
    mask: Float[Array, "b h a"],
    bandwidth: float,
) -> ExtraPositives:
    """All entries of each observation's task, weighted; one that is padded where the observation is not weighs 0."""
    size = bank.summary.shape[1]
    there = jnp.arange(size) < bank.written[task][:, None]
    usable = there & jnp.all(bank.mask[task] >= mask[:, None], axis=(2, 3))
    distance = distances(summary[:, None].astype(jnp.float32), bank.summary[task])[:, 0]
    mean = jnp.sum(distance * there) / jnp.maximum(jnp.sum(there), 1)
    weight = jnp.exp(-0.5 * jnp.square(distance / jnp.maximum(bandwidth * mean, 1e-6))) * usable
    return ExtraPositives(bank.chunk[task], weight)
