"""A policy: observations as they come over the wire in, chunks of poses out, whoever computes the network.

    check -> pad to a compiled batch size -> normalise -> two functions of arrays -> check -> denormalise

The two functions come from a checkpoint (``restore.py``) or from an exported artifact (``artifact.py``); everything else
about an answer is here, once. Instructions are tokenised and encoded when first heard, then remembered. What a request
gets does not depend on what else is in the batch. A state that no sensor of the training data's could give is refused,
and so is a chunk that no arm should execute (``data/value_range.py``). This module knows no network: it imports none of the
models.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.data.value_range import Bounds
from drifting_vla_jax.wire import protocol


@dataclass(frozen=True)
class Network:
    """What a policy computes with, on its device.

    Attributes:
      encode_text: tokens int32 [1 l] -> a pytree of arrays with a leading axis of 1: the instruction, encoded.
      act: images uint8 [b v size size 3], state [b s], text (that pytree, of b instructions), seeds uint32 [b]
        -> chunks [b h a] in network units.
    """

    encode_text: Callable[[Int[np.ndarray, "1 l"]], Any]
    act: Callable[..., Any]


class Policy:
    """Answers observations with chunks of absolute targets, of an end effector or of what ``ActionNormalizer.layout`` says.

    Attributes:
      metadata: the wire's first message (DESIGN: "Wire").
      batch_sizes: compiled sizes, ascending; a batch is padded to the next one.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: Callable[[Sequence[str]], Int[np.ndarray, "n l"]],
        actions: ActionNormalizer,
        metadata: Mapping[str, Any],
        batch_sizes: Sequence[int] = (1,),
        text_cache: int = 256,
    ):
        """Args:
        tokenizer: instructions -> ids; raises ValueError for one it cannot take.
        actions: between poses and network units.
        batch_sizes: ascending.
        text_cache: instructions remembered.
        """
        self._act, self._encode_text = network.act, network.encode_text
        self._actions, self._unseeded = actions, 0
        self._bounds = Bounds(actions, metadata.get("state_names", ()))
        self.metadata, self.batch_sizes = dict(metadata), tuple(batch_sizes)
        self._heard = functools.lru_cache(text_cache)(self._hear)
        self._tokens = functools.lru_cache(text_cache)(lambda prompt: tokenizer([prompt]))

    def _hear(self, prompt: str) -> Any:
        """What the text encoder makes of one instruction, on the host."""
        return jax.device_get(self._encode_text(self._tokens(prompt)))

    def check(self, observation: dict) -> None:
        """Raises ValueError with one line if an observation (wire format) cannot be used."""
        protocol.check_observation(observation, self.metadata)
        self._bounds.check_state(observation["state"])
        self._tokens(observation["prompt"])

    def infer(self, observations: Sequence[dict]) -> Float[np.ndarray, "n h k"]:
        """Answers n observations (wire format); blocks until the result is ready.

        Args:
          observations: at most ``max(batch_sizes)`` checked maps. The same ``seed`` draws the same noise; without one
            every request draws anew.

        Returns:
          Absolute targets, one control step apart: x y z (m, world), qx qy qz qw (unit, w >= 0), gripper (0 .. 1);
          of another layout what "action_names" of the metadata says.

        Raises:
          UnsoundActionsError: one of the answers is not finite or far outside of the training data.
        """
        n = len(observations)
        size = next(s for s in self.batch_sizes if s >= n)
        padded = [*observations, *[observations[-1]] * (size - n)]
        images = np.stack([_stack_views(o["images"], self.metadata["cameras"]) for o in padded])
        state = self._actions.normalise_state(np.stack([o["state"] for o in padded]))
        text = jax.tree.map(lambda *rows: np.concatenate(rows), *[self._heard(o["prompt"]) for o in padded])
        seeds = np.array([self._seed(o) for o in padded], np.uint32)
        chunk = np.asarray(self._act(images, state, text, seeds))[:n]
        if wrong := self._bounds.unsound(chunk):
            raise protocol.UnsoundActionsError(wrong)
        return self._actions.denormalise(chunk, self._actions.position(state[:n]))

    def _seed(self, observation: dict) -> int:
        if "seed" in observation:
            return int(observation["seed"])
        self._unseeded += 1
        return (self._unseeded * 2654435761) % protocol.SEED_LIMIT


def _stack_views(images: Mapping[str, np.ndarray], cameras: Sequence[str]) -> UInt8[np.ndarray, "v size size 3"]:
    """All views in the network's order: of the oldest time step first, if there are several."""
    views = [images[camera] if images[camera].ndim == 4 else images[camera][None] for camera in cameras]
    return np.stack(views, axis=1).reshape(-1, *views[0].shape[1:])
