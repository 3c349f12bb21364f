"""A trained policy: restore -> jit once per batch size -> infer.

Everything needed comes from the checkpoint: configuration, action statistics, cameras, weights. An answer is one call
of a compiled function: encode, draw one chunk per request from its own seed, and on the host turn network units back
into poses. What a request gets does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from drifting_vla_jax.config import config_hash
from drifting_vla_jax.data.text import tokenize
from drifting_vla_jax.objectives.objective import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.checkpoint import Assets, CheckpointError, Checkpoints
from drifting_vla_jax.train.step import sample_chunks
from drifting_vla_jax.types import ACTION_DIM, Observation
from drifting_vla_jax.wire import protocol


class Policy:
    """Answers observations with chunks of absolute end-effector targets.

    Attributes:
      assets: configuration and statistics from the checkpoint.
      metadata: the wire's first message (DESIGN: "Wire").
      batch_sizes: compiled sizes, ascending; a batch is padded to the next one.
    """

    def __init__(self, assets: Assets, params: dict, step: int, batch_sizes: Sequence[int] = (1,)):
        config = assets.config
        self.assets, self._params, self._unseeded = assets, params, 0
        self.batch_sizes = tuple(batch_sizes)
        self._sample = jax.jit(self._sample_chunks)
        self.metadata: dict[str, Any] = {
            "cameras": list(config.env.cameras),
            "image_size": config.env.image_size,
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
    def restore(cls, workdir: str | Path, step: str | int = "latest", batch_sizes: Sequence[int] = (1,)) -> Policy:
        """Loads the EMA weights of a run: the ``latest`` or ``best`` checkpoint, or the one of a step.

        Raises:
          CheckpointError: there is none, not that one, or it is damaged.
        """
        if not (Path(workdir) / "checkpoints").is_dir():
            raise CheckpointError(f"no checkpoint in {workdir}; train first: --mode=train --workdir={workdir}")
        checkpoints = Checkpoints(workdir)
        number = {"latest": checkpoints.latest, "best": checkpoints.best}.get(step, lambda: int(step))()
        if number is None:
            raise CheckpointError(f"no checkpoint in {workdir}; train first: --mode=train --workdir={workdir}")
        assets = checkpoints.restore_assets(number)
        mesh = sharding.single_device_mesh()
        params = checkpoints.restore_ema(number, assets.config, mesh)
        checkpoints.close()
        return cls(assets, params, number, batch_sizes)

    def _sample_chunks(self, params, images, state, tokens, prompt, seeds):
        config = self.assets.config
        shape = (1, config.action.horizon, config.model.noise_dim)
        noise = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape))(seeds)
        observation = Observation(images=images, state=state, tokens=tokens, prompt=prompt)
        return sample_chunks(params, observation, noise, config)[:, 0]

    def check(self, observation: dict) -> None:
        """Raises ValueError with one line if an observation (wire format) cannot be used."""
        protocol.check_observation(observation, self.metadata)
        tokenize([observation["prompt"]], self.assets.config.data.max_tokens)

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
        images = np.stack([np.stack([o["images"][camera] for camera in cameras]) for o in padded])
        state = actions.normalise_state(np.stack([o["state"] for o in padded]))
        tokens = tokenize([o["prompt"] for o in padded], self.assets.config.data.max_tokens)
        seeds = np.array([self._seed(o) for o in padded], np.uint32)
        chunk = self._sample(self._params, images, state, tokens, np.arange(size, dtype=np.int32), seeds)
        return actions.denormalise(np.asarray(chunk)[:n], actions.position(state[:n]))

    def _seed(self, observation: dict) -> int:
        if "seed" in observation:
            return int(observation["seed"])
        self._unseeded += 1
        return (self._unseeded * 2654435761) % protocol.SEED_LIMIT
