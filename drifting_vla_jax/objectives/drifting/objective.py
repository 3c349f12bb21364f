"""Drifting as a way to train a policy: g fresh samples per observation, one expert chunk, one evaluation to act.

The field itself is in ``loss.py``. The noise is drawn anew at every step: particles that are kept would fly apart,
since each is pushed from the others and every field is scaled to unit size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.core.ranges import Choice, Many, Number, whole
from drifting_vla_jax.core.sample_statistics import sample_statistics
from drifting_vla_jax.objectives.base import Objective
from drifting_vla_jax.objectives.drifting import memory_bank as bank
from drifting_vla_jax.objectives.drifting.grouping import GROUPINGS, group, repeat_per_group, ungroup
from drifting_vla_jax.objectives.drifting.guidance import Guidance
from drifting_vla_jax.objectives.drifting.loss import drifting_loss, raw_drift

UNITS = ("mean_distance", "nearest_positive")


@dataclass(frozen=True)
class TemperatureAnneal:
    """``config.objective.drifting.temperature_anneal``. Large temperatures draw samples to the data fast but blur ways of
    doing things into one another; small ones tell ways apart, but where samples start together they may all settle on one.

    Attributes:
      initial_scale: the temperatures start that many times as large, and come down in equal ratios.
      fraction: share of the training after which they have come down to themselves.
    """

    initial_scale: Annotated[float, Number(1.0, 1e4)]
    fraction: Annotated[float, Number(0.0, 1.0, "(]")]


@dataclass(frozen=True)
class Settings:
    """``config.objective.drifting``.

    Attributes:
      samples: g, chunks drawn per observation; at least 2, or nothing repels.
      temperatures: tau of each field.
      temperature_unit: mean_distance as in the paper, or nearest_positive: each observation's own distance from its
        positives to the nearest sample (``affinity.reach``).
      grouping: which entries of a chunk are one point of the field (``grouping.py``).
      memory_bank: extra positives (``memory_bank.py``).
      guidance: how strongly the instruction is followed (``guidance.py``).
    """

    samples: Annotated[int, whole(2, 65536)]
    temperatures: Annotated[tuple[float, ...], Many(Number(0.0, 1e4, "(]"), least=1)]
    temperature_unit: Annotated[str, Choice(UNITS)]
    temperature_anneal: TemperatureAnneal
    grouping: Annotated[str, Choice(GROUPINGS)]
    memory_bank: bank.BankSettings
    guidance: Guidance


class SampleField(NamedTuple):
    """Where the raw fields carry samples, in network units.

    Attributes:
      drift: on average over temperatures.
      rms: of the field of each temperature.
      sizes: what of it is logged.
    """

    drift: Float[Array, "b g h a"]
    rms: Float[Array, " t"]
    sizes: dict[str, Array]


def drift_sizes(sum_sq: Float[Array, ""], mask: Float[Array, "b h a"]) -> dict[str, Array]:
    """How far the raw fields carry a sample, on average over temperatures, in network units: these fall, the loss cannot.

    ``sum_sq``: mean square of a coordinate's drift times the number of coordinates that count.

    lambda_V        rms of a coordinate's drift.
    raw_drift_norm  mean squared length of a sample's drift: lambda_V^2 times the coordinates of a chunk.
    """
    mean_sq = sum_sq / jnp.maximum(jnp.sum(mask), 1.0)
    return {"lambda_V": jnp.sqrt(mean_sq), "raw_drift_norm": sum_sq / len(mask)}


@dataclass(frozen=True)
class Drifting(Objective):
    """Per-observation drifting. Its state is the memory bank, or () without one."""

    settings: Settings
    Settings = Settings

    @property
    def samples(self) -> int:
        return self.settings.samples

    @property
    def temperatures(self) -> tuple[float, ...]:
        """tau of each field, at the end of training."""
        return self.settings.temperatures

    @property
    def drop_instruction(self) -> float:
        return self.settings.guidance.drop_instruction if self.settings.guidance.negatives else 0.0

    @property
    def needs_summary(self) -> bool:
        return self.settings.memory_bank.size > 0

    def check(self):
        negatives, batch = self.settings.guidance.negatives, self.sizes.batch_size
        if negatives >= batch:
            yield f"config.objective.drifting.guidance.negatives {negatives} must be below config.data.batch_size {batch}"

    def check_mixture(self, shared):
        if self.settings.memory_bank.size:
            yield (
                f"config.objective.drifting.memory_bank keeps chunks by task, but {shared[0]!r} is in several sets, each with "
                "units of its own; set config.objective.drifting.memory_bank.size to 0"
            )

    def init_state(self):
        size, s = self.settings.memory_bank.size, self.sizes
        return bank.empty(s.tasks, size, s.summary_dim, s.horizon, self.layout.network_dim) if size else ()

    def loss(self, generate, expert, key, progress, state):
        b, h, a = expert.chunk.shape
        grouping, guidance, anneal = self.settings.grouping, self.settings.guidance, self.settings.temperature_anneal
        key_noise, key_alpha = jax.random.split(key)
        positives, weight, state = self._positives(expert, state)
        told, negatives, repulsion = jnp.zeros((b, 1)), expert.chunk[:, None][:, :0], weight[:, :0]
        if guidance.negatives:
            alpha = guidance.draw_alpha(key_alpha, expert.instructed)
            negatives, repulsion = guidance.repel(expert.chunk, expert.mask, alpha, self.samples)
            told = jnp.log(alpha)[:, None]

        x = generate(jax.random.normal(key_noise, (b, self.samples, h, self.sizes.noise_dim)), told)
        hotter = anneal.initial_scale ** jnp.maximum(0.0, 1 - progress / anneal.fraction)
        temperatures = hotter * jnp.array(self.temperatures)
        parts = (x, positives, negatives, expert.mask[:, None])
        points = [group(part, grouping, self.layout) for part in parts]
        weights = [repeat_per_group(w, grouping, h, a, self.layout) for w in (weight, repulsion)]
        loss, raw_sq, info = 0.0, 0.0, {}
        for name, gen in points[0].items():
            pos, neg, mask = (part[name] for part in points[1:])
            set_loss, figures = drifting_loss(
                gen,
                pos,
                neg,
                weight_pos=weights[0][name],
                weight_neg=weights[1][name],
                mask=mask[:, 0],
                temperatures=temperatures,
                in_reach=self._in_reach,
            )
            entries = jnp.sum(mask[:, 0], axis=1)
            loss += jnp.sum((set_loss * entries).reshape(b, -1), axis=1)
            raw_sq += jnp.square(figures["unit"]) * jnp.mean(figures["drift_sq"]) * jnp.sum(entries)
            prefix = f"{name}/" if name else ""
            info[f"drift_scale{prefix and '/' + name}"] = figures["scale"]
            info |= {f"drift_sq/{prefix}{t:g}": figures["drift_sq"][i] for i, t in enumerate(self.temperatures)}
        loss = loss / jnp.maximum(jnp.sum(expert.mask, axis=(1, 2)), 1.0)
        info |= drift_sizes(raw_sq, expert.mask)
        return loss, info | sample_statistics(x, expert.chunk, expert.mask), state

    def _positives(self, expert, state):
        """Chunks that attract [b p h a], the weight of each [b p], and the state with this batch's chunks in it."""
        positives, weight = expert.chunk[:, None], jnp.ones((len(expert.chunk), 1))
        if not self.settings.memory_bank.size:
            return positives, weight, state
        bandwidth = self.settings.memory_bank.bandwidth
        near = bank.neighbours(state, expert.task, expert.summary, expert.mask, bandwidth)
        positives = jnp.concatenate([positives, near.chunk], axis=1)
        weight = jnp.concatenate([weight, near.weight], axis=1)
        return positives, weight, bank.add(state, expert.task, expert.summary, expert.chunk, expert.mask)

    @property
    def _in_reach(self) -> bool:
        return self.settings.temperature_unit == "nearest_positive"

    def field(
        self, samples: Float[Array, "b g h a"], chunk: Float[Array, "b h a"], mask: Float[Array, "b h a"]
    ) -> SampleField:
        """The raw fields at these samples, whatever drew them."""
        (_, h, a), grouping = chunk.shape, self.settings.grouping
        points = [group(part, grouping, self.layout) for part in (samples, chunk[:, None], mask[:, None])]
        moved, sum_sq = {}, 0.0
        for name, gen in points[0].items():
            pos, entries = points[1][name], points[2][name][:, 0]
            temperatures = jnp.array(self.temperatures)
            fields, rms = raw_drift(gen, pos, mask=entries, temperatures=temperatures, in_reach=self._in_reach)
            moved[name] = jnp.mean(fields, axis=0)
            sum_sq += jnp.square(rms) * jnp.sum(entries)
        rms = jnp.sqrt(sum_sq / jnp.maximum(jnp.sum(mask), 1.0))
        sizes = drift_sizes(jnp.mean(jnp.square(rms)) * jnp.sum(mask), mask)
        figures = {"lambda_V": sizes["lambda_V"], "drift_norm": sizes["raw_drift_norm"]}
        return SampleField(ungroup(moved, grouping, h, a), rms, figures)

    def sample(self, generate, noise):
        return generate(noise, self.settings.guidance.told(noise))
