"""Drifting as a way to train a policy: g fresh samples per observation, one expert chunk, one evaluation to act.

The field itself is in ``loss.py``. The noise is drawn anew at every step: particles that are kept would fly apart,
since each is pushed from the others and every field is scaled to unit size.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout, layout_of
from drifting_vla_jax.objectives.base import sample_statistics
from drifting_vla_jax.objectives.drifting.grouping import group, repeat_per_group, ungroup
from drifting_vla_jax.objectives.drifting.guidance import Guidance
from drifting_vla_jax.objectives.drifting.loss import drifting_loss, raw_drift
from drifting_vla_jax.types import GROUPINGS

NO_GUIDANCE = Guidance()


def drift_sizes(sum_sq: Float[Array, ""], mask: Float[Array, "b h a"]) -> dict[str, Array]:
    """How far the raw fields carry a sample, on average over temperatures, in network units: these fall, the loss cannot.

    ``sum_sq``: mean square of a coordinate's drift times the number of coordinates that count.

    lambda_V        rms of a coordinate's drift.
    raw_drift_norm  mean squared length of a sample's drift: lambda_V^2 times the coordinates of a chunk.
    """
    mean_sq = sum_sq / jnp.maximum(jnp.sum(mask), 1.0)
    return {"lambda_V": jnp.sqrt(mean_sq), "raw_drift_norm": sum_sq / len(mask)}


@dataclass(frozen=True)
class Drifting:
    """Per-observation drifting (see ``objectives/base.py`` for the interface).

    Attributes:
      samples: g, chunks drawn per observation; at least 2, or nothing repels.
      temperatures: tau of each field, in mean distances.
      grouping: which entries of a chunk are one point of the field (``grouping.py``).
      layout: what the entries of an action are.
      guidance: how strongly the instruction is followed (``guidance.py``).
      in_reach: temperatures in units of each observation's own reach (``affinity.reach``), not of the mean distance.
      anneal_from, anneal_until: the temperatures start that many times as large, and come down in equal ratios until that
        share of the training is done. Large ones draw samples to the data fast but blur ways of doing things into one
        another; small ones tell ways apart, but where samples start together they may all settle on one.
    """

    samples: int
    temperatures: tuple[float, ...]
    grouping: str = "chunk"
    guidance: Guidance = NO_GUIDANCE
    anneal_from: float = 1.0
    anneal_until: float = 1.0
    in_reach: bool = False
    layout: ActionLayout = END_EFFECTOR
    evaluations_per_chunk: int = 1

    def __post_init__(self):
        if self.samples < 2:
            raise ValueError(f"config.objective.samples is {self.samples}; drifting needs at least 2 per observation")
        if self.grouping not in GROUPINGS:
            raise ValueError(f"config.objective.grouping is {self.grouping!r}; expected one of {', '.join(GROUPINGS)}")

    def loss(self, generate, expert, noise, key, progress):
        b, h, a = expert.chunk.shape
        key_noise, key_alpha = jax.random.split(key)
        positives, weight = expert.chunk[:, None], jnp.ones((b, 1))
        if expert.neighbours is not None:
            positives = jnp.concatenate([positives, expert.neighbours.chunk], axis=1)
            weight = jnp.concatenate([weight, expert.neighbours.weight], axis=1)
        told, negatives, repulsion = jnp.zeros((b, 1)), expert.chunk[:, None][:, :0], weight[:, :0]
        if self.guidance.negatives:
            alpha = self.guidance.draw_alpha(key_alpha, expert.instructed)
            negatives, repulsion = self.guidance.repel(expert.chunk, expert.mask, alpha, self.samples)
            told = jnp.log(alpha)[:, None]

        x = generate(jax.random.normal(key_noise, (b, self.samples, noise.horizon, noise.noise_dim)), told)
        hotter = self.anneal_from ** jnp.maximum(0.0, 1 - progress / self.anneal_until)
        temperatures = hotter * jnp.array(self.temperatures)
        parts = (x, positives, negatives, expert.mask[:, None])
        points = [group(part, self.grouping, self.layout) for part in parts]
        weights = [repeat_per_group(w, self.grouping, h, a, self.layout) for w in (weight, repulsion)]
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
                in_reach=self.in_reach,
            )
            entries = jnp.sum(mask[:, 0], axis=1)
            loss += jnp.sum((set_loss * entries).reshape(b, -1), axis=1)
            raw_sq += jnp.square(figures["unit"]) * jnp.mean(figures["drift_sq"]) * jnp.sum(entries)
            prefix = f"{name}/" if name else ""
            info[f"drift_scale{prefix and '/' + name}"] = figures["scale"]
            info |= {f"drift_sq/{prefix}{t:g}": figures["drift_sq"][i] for i, t in enumerate(self.temperatures)}
        loss = loss / jnp.maximum(jnp.sum(expert.mask, axis=(1, 2)), 1.0)
        info |= drift_sizes(raw_sq, expert.mask)
        return loss, info | sample_statistics(x, expert.chunk, expert.mask)

    def field(
        self, samples: Float[Array, "b g h a"], chunk: Float[Array, "b h a"], mask: Float[Array, "b h a"]
    ) -> tuple[Float[Array, "b g h a"], Float[Array, " t"]]:
        """Where the raw fields carry these samples, on average over temperatures, and the rms of each; network units."""
        _, h, a = chunk.shape
        points = [group(part, self.grouping, self.layout) for part in (samples, chunk[:, None], mask[:, None])]
        moved, sum_sq = {}, 0.0
        for name, gen in points[0].items():
            pos, entries = points[1][name], points[2][name][:, 0]
            fields, rms = raw_drift(
                gen, pos, mask=entries, temperatures=jnp.array(self.temperatures), in_reach=self.in_reach
            )
            moved[name] = jnp.mean(fields, axis=0)
            sum_sq += jnp.square(rms) * jnp.sum(entries)
        return ungroup(moved, self.grouping, h, a), jnp.sqrt(sum_sq / jnp.maximum(jnp.sum(mask), 1.0))

    def sample(self, generate, noise):
        return generate(noise, self.guidance.told(noise))


def make_drifting(config: ConfigDict) -> Drifting:
    """What ``io.objective`` says of drifting; the field of any policy's samples, however it was trained."""
    o = config.objective
    return Drifting(
        samples=o.samples,
        temperatures=tuple(o.temperatures),
        grouping=o.grouping,
        guidance=Guidance(**o.guidance),
        anneal_from=o.anneal_from,
        anneal_until=o.anneal_until,
        in_reach=o.in_reach,
        layout=layout_of(config),
    )
