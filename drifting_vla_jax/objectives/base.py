"""What a training objective is: how samples are drawn while training, and how many network evaluations a chunk costs.

An objective is a class built with its settings, the action layout and the sizes around it (``registry.make_objective``).
It gets the network as ``generate(noise[b g h z], time[b g or b 1]) -> chunk[b g h a]``: the observation is encoded once
and closed over. ``time`` is the one number that a sample is conditioned on besides its noise: the time on the path of flow
matching, the strength of guidance of drifting (0: as demonstrated).

What training must remember from step to step, beyond the parameters, is the objective's state: a pytree that
``init_state`` makes and ``loss`` returns anew. The train state and the checkpoints carry it and look at nothing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from drifting_vla_jax.core.action_layout import ActionLayout

ModelFn = Callable[[Float[Array, "b g h z"], Float[Array, "b #g"]], Float[Array, "b g h a"]]
State = Any  # a pytree of arrays, the same structure, shapes and dtypes at every step


@dataclass(frozen=True)
class Sizes:
    """The sizes of the training around an objective, by the letters of ``types.py``.

    Attributes:
      noise_dim: z, numbers of noise per action step.
      horizon: h.
      batch_size: b, over all devices.
      tasks: how many tasks there are.
      summary_dim: d of ``Target.summary``.
    """

    noise_dim: int
    horizon: int
    batch_size: int
    tasks: int
    summary_dim: int


@struct.dataclass
class Target:
    """What the demonstrations say about b observations, in network units.

    Attributes:
      chunk: the actions.
      mask: 1 where they count, 0 on padded steps and constant dimensions.
      instructed: False where the network was not told the instruction.
      task: index of each observation's task.
      summary: of each observation, without a gradient; None unless the objective has ``needs_summary``.
    """

    chunk: Float[Array, "b h a"]
    mask: Float[Array, "b h a"]
    instructed: Bool[Array, " b"]
    task: Int[Array, " b"]
    summary: Float[Array, "b d"] | None = None


@dataclass(frozen=True)
class Objective:
    """One way to train the network and to draw a chunk from it. A subclass has ``loss`` and ``sample``, and overrides
    what else differs.

    Attributes:
      settings: of the class ``Settings``; None if that is None.
      layout: what the numbers of an action are.
      sizes: of the training.
    """

    settings: Any
    layout: ActionLayout
    sizes: Sizes

    Settings: ClassVar[type | None] = None  # a dataclass (core/settings.py), read from the objective's section
    section: ClassVar[str] = ""  # config.objective.<section>; of an objective of the package it is its name

    @property
    def samples(self) -> int:
        """Chunks that validation draws of each observation."""
        return 8

    @property
    def evaluations_per_chunk(self) -> int:
        """Network evaluations of ``sample``."""
        return 1

    @property
    def adjustable_steps(self) -> bool:
        """Whether ``with_steps`` takes other numbers of evaluations than the one it was trained with."""
        return False

    @property
    def drop_instruction(self) -> float:
        """Share of the observations that the network is shown without their instruction in training."""
        return 0.0

    @property
    def needs_summary(self) -> bool:
        """Whether ``loss`` reads ``Target.summary``."""
        return False

    def check(self) -> Iterator[str]:
        """What does not fit the sizes or the layout: a line each."""
        return iter(())

    def check_mixture(self, shared: Sequence[str]) -> Iterator[str]:
        """What does not fit a mixture where several data sets, each in units of its own, have these tasks."""
        return iter(())

    def with_steps(self, steps: int) -> Objective:
        """The same, with a chunk from so many network evaluations.

        Raises:
          ValueError: the number cannot be chosen.
        """
        raise ValueError(
            f"{steps} sampling steps are asked for, but this policy was trained with an objective that answers in "
            f"{self.evaluations_per_chunk} network evaluation(s); leave them out"
        )

    def init_state(self) -> State:
        """The state before the first step."""
        return ()

    def loss(
        self, generate: ModelFn, expert: Target, key: PRNGKeyArray, progress: Float[Array, ""], state: State
    ) -> tuple[Float[Array, " b"], dict[str, Array], State]:
        """The loss of every observation, scalars worth logging, and the state of the next step.

        Args:
          progress: share of the training that is done.
          state: see ``init_state``.
        """
        raise NotImplementedError

    def sample(self, generate: ModelFn, noise: Float[Array, "b g h z"]) -> Float[Array, "b g h a"]:
        """g chunks per observation, a function of the noise alone."""
        raise NotImplementedError


def masked_mean(values: Float[Array, "..."], mask: Float[Array, "..."], axes: tuple[int, ...]) -> Array:
    """Mean over ``axes`` of the entries that the mask (broadcast to the values) keeps; 0 where it keeps none."""
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(values * mask, axis=axes) / jnp.maximum(jnp.sum(mask, axis=axes), 1.0)
