"""A trained policy: restore -> jit once per batch size -> infer.

Everything needed comes from the checkpoint: configuration, action statistics, cameras, weights; a frozen pretrained
encoder comes from where the configuration says, and its hash must be the one the checkpoint remembers. An answer is one
call of a compiled function: look, draw one chunk per request from its own seed, and on the host turn network units back
into poses. Instructions are tokenised and encoded when first heard, then remembered. What a request gets does not depend
on what else is in the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from drifting_vla_jax.config import config_hash
from drifting_vla_jax.data.text import make_tokenizer
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.objective import make_objective
from drifting_vla_jax.train import borrowed, sharding
from drifting_vla_jax.train.checkpoint import Assets, CheckpointError, Checkpoints
from drifting_vla_jax.train.partition import merge
from drifting_vla_jax.train.step import answer
from drifting_vla_jax.types import ACTION_DIM, Text
from drifting_vla_jax.wire import protocol


class Policy:
    """Answers observations with chunks of absolute end-effector targets.

    Attributes:
      assets: configuration and statistics from the checkpoint.
      metadata: the wire's first message (DESIGN: "Wire").
      batch_sizes: compiled sizes, ascending; a batch is padded to the next one.
    """

    def __init__(
        self,
        assets: Assets,
        params: dict,
        step: int,
        batch_sizes: Sequence[int] = (1,),
        text_cache: int = 256,
    ):
        """A policy of these (whole) parameters, on the device where they lie; see ``restore``."""
        config = assets.config
        self.assets, self._params, self._unseeded = assets, params, 0
        self.batch_sizes = tuple(batch_sizes)
        self._sample, self._encode_text = jax.jit(functools.partial(answer, config=config)), jax.jit(self._text)
        self._tokenizer = make_tokenizer(config)
        self._heard = functools.lru_cache(text_cache)(self._hear)
        self._tokens = functools.lru_cache(text_cache)(lambda prompt: self._tokenizer([prompt]))
        self.metadata: dict[str, Any] = {
            "cameras": list(config.env.cameras),
            "image_size": config.env.image_size,
            "history": config.model.history,
            "history_stride": config.model.history_stride,
            "state_dim": config.env.state_dim,
            "horizon": config.action.horizon,
            "action_dim": ACTION_DIM,
            "prompts": list(assets.prompts),
            "checkpoint_step": step,
            "config_hash": config_hash(config),
            "objective": config.objective.name,
            "evaluations_per_chunk": make_objective(config).evaluations_per_chunk,
            "control_hz": assets.control_hz,
            "environment": config.env.name,
            "frame_skip": config.env.frame_skip,
        }

    @classmethod
    def restore(
        cls,
        workdir: str | Path,
        step: str | int = "latest",
        batch_sizes: Sequence[int] = (1,),
        text_cache: int = 256,
        encoders: Mapping[str, str] | None = None,
    ) -> Policy:
        """Loads the EMA weights of a run: the ``latest`` or ``best`` checkpoint, or the one of a step.

        Args:
          batch_sizes: sizes compiled, ascending.
          text_cache: instructions remembered.
          encoders: where pretrained encoders lie ("vision", "text"), if not where training had them.

        Raises:
          CheckpointError: there is none, not that one, or it is damaged.
          HubError, ConversionError, ValueError: a pretrained encoder is not there, damaged, or another one.
        """
        if not (Path(workdir) / "checkpoints").is_dir():
            raise CheckpointError(f"no checkpoint in {workdir}; train first: --mode=train --workdir={workdir}")
        checkpoints = Checkpoints(workdir)
        number = {"latest": checkpoints.latest, "best": checkpoints.best}.get(step, lambda: int(step))()
        if number is None:
            raise CheckpointError(f"no checkpoint in {workdir}; train first: --mode=train --workdir={workdir}")
        assets = checkpoints.restore_assets(number)
        mesh = sharding.single_device_mesh()
        config = assets.config.unlock()
        for part, name in (encoders or {}).items():
            config.model[part].name = name
        params = checkpoints.restore_ema(number, config.lock(), mesh)
        checkpoints.close()
        pretrained = borrowed.load_encoders(config)
        borrowed.check_identities(pretrained, assets.encoders)
        params = merge(params, borrowed.borrow(config, pretrained, mesh, instructions=None).params)
        return cls(assets, params, number, batch_sizes, text_cache)

    def _text(self, params, tokens) -> Text:
        return DriftingVLA(self.assets.config).apply({"params": params}, tokens, method="encode_text")

    def _hear(self, prompt: str) -> Text:
        """What the text encoder makes of one instruction, on the host."""
        return jax.device_get(self._encode_text(self._params, self._tokens(prompt)))

    def check(self, observation: dict) -> None:
        """Raises ValueError with one line if an observation (wire format) cannot be used."""
        protocol.check_observation(observation, self.metadata)
        self._tokens(observation["prompt"])

    def infer(self, observations: Sequence[dict]) -> Float[np.ndarray, "n h 8"]:
        """Answers n observations (wire format); blocks until the result is ready.

        Args:
          observations: at most ``max(batch_sizes)`` checked maps. The same ``seed`` draws the same noise; without one
            every request draws anew.

        Returns:
          Absolute targets, one control step apart: x y z (m, world), qx qy qz qw (unit, w >= 0), gripper (0 .. 1).
        """
        n = len(observations)
        size = next(s for s in self.batch_sizes if s >= n)
        padded = [*observations, *[observations[-1]] * (size - n)]
        cameras, actions = self.metadata["cameras"], self.assets.actions
        images = np.stack([_stack_views(o["images"], cameras) for o in padded])
        state = actions.normalise_state(np.stack([o["state"] for o in padded]))
        text = jax.tree.map(lambda *rows: np.concatenate(rows), *[self._heard(o["prompt"]) for o in padded])
        seeds = np.array([self._seed(o) for o in padded], np.uint32)
        chunk = self._sample(self._params, images, state, text, seeds)
        return actions.denormalise(np.asarray(chunk)[:n], actions.position(state[:n]))

    def _seed(self, observation: dict) -> int:
        if "seed" in observation:
            return int(observation["seed"])
        self._unseeded += 1
        return (self._unseeded * 2654435761) % protocol.SEED_LIMIT


def _stack_views(images: Mapping[str, np.ndarray], cameras: Sequence[str]) -> UInt8[np.ndarray, "v size size 3"]:
    """All views in the network's order: of the oldest time step first, if there are several."""
    views = [images[camera] if images[camera].ndim == 4 else images[camera][None] for camera in cameras]
    return np.stack(views, axis=1).reshape(-1, *views[0].shape[1:])
