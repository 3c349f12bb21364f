"""A policy from a checkpoint: restore -> jit once per batch size.

Everything needed comes from the checkpoint: configuration, action statistics, cameras, weights; a frozen pretrained
encoder comes from where the configuration says, and its hash must be the one the checkpoint remembers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from drifting_vla_jax.config.io import config_hash
from drifting_vla_jax.core.action_layout import END_EFFECTOR, layout_of
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.models.tokenizers import make_tokenizer
from drifting_vla_jax.models.vla import make_text
from drifting_vla_jax.objectives.base import Objective
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.policy.policy import Network, Policy
from drifting_vla_jax.policy.sampling import predict_actions
from drifting_vla_jax.train import frozen_encoders, sharding
from drifting_vla_jax.train.assets import Assets
from drifting_vla_jax.train.checkpoint import CheckpointError, Checkpoints
from drifting_vla_jax.train.partition import is_trainable, merge
from drifting_vla_jax.types import Text


@dataclass(frozen=True)
class RestoredPolicy:
    """What a checkpoint holds for acting.

    Attributes:
      assets: configuration and statistics, of a mixture for one of its sets.
      params: EMA weights of the whole network, frozen encoders included, on the device.
      step: optimiser steps behind them.
      sampling_steps: network evaluations for a chunk, of an objective that lets one choose; 0: as it was trained.
      weights: names what it answers with, see ``fingerprint_of``; "": of no checkpoint.

    Raises:
      ValueError: steps are asked of a policy that takes none.
    """

    assets: Assets
    params: dict
    step: int
    sampling_steps: int = 0
    weights: str = ""

    def __post_init__(self):
        _ = self.objective  # which may not take those steps

    @functools.cached_property
    def objective(self) -> Objective:
        """The objective whose sampler acts, with the steps asked for."""
        objective = make_objective(self.assets.config)
        return objective.with_steps(self.sampling_steps) if self.sampling_steps else objective

    def parameters(self) -> dict[str, int]:
        """How many numbers the network has, and how many of them were trained."""
        sizes = {path: math.prod(leaf.shape) for path, leaf in flatten_dict(self.params, sep="/").items()}
        learned = sum(size for path, size in sizes.items() if is_trainable(path, self.assets.config))
        return {"all": sum(sizes.values()), "trained": learned}

    def metadata(self, num_samples: int = 1, choose: str = "first") -> dict[str, Any]:
        """The wire's first message."""
        config, assets = self.assets.config, self.assets
        more = {"dataset": assets.acting, "tasks": list(assets.tasks)} if assets.sets else {}
        more |= {"flow_steps": self.sampling_steps} if self.sampling_steps else {}
        more |= {"weights": self.weights} if self.weights else {}
        layout = layout_of(config)
        more |= {"action_names": list(layout.names)} if layout != END_EFFECTOR else {}
        return {
            "cameras": list(assets.cameras),
            "image_size": config.env.image_size,
            "history": config.model.history,
            "history_stride": config.model.history_stride,
            "state_dim": config.env.state_dim,
            "state_names": list(assets.state_names),
            "state_mean": assets.actions.state_mean.tolist(),
            "horizon": config.action.horizon,
            "action_dim": layout.dim,
            "prompts": list(assets.prompts),
            "checkpoint_step": self.step,
            "config_hash": assets.written_hash or config_hash(config),
            "objective": config.objective.name,
            "evaluations_per_chunk": self.objective.evaluations_per_chunk,
            "num_samples": num_samples,
            "choose": choose,
            "control_hz": assets.control_hz,
            "environment": config.env.name,
            "frame_skip": config.env.frame_skip,
            **more,
        }

    def encode_text(self, params: dict, tokens) -> Text:
        """Token ids [u l] -> ``Text``; of the parameters only those under "text" are read, which ``act`` leaves alone."""
        return make_text(self.assets.config).apply({"params": params["text"]}, tokens)

    def act(self, params: dict, images, state, text: Text, seeds, *, num_samples: int = 1, choose: str = "first"):
        """One call of the network, see ``policy.sampling.predict_actions``."""
        assets = self.assets
        how = {"samples": num_samples, "choose": choose, "active": assets.actions.active, "views": assets.views}
        return predict_actions(
            params, images, state, text, seeds, config=assets.config, objective=self.objective, **how
        )


def restore(
    workdir: str | Path,
    step: str | int = "latest",
    batch_sizes: Sequence[int] = (1,),
    text_cache: int = 256,
    encoders: Mapping[str, str] | None = None,
    num_samples: int = 1,
    choose: str = "first",
    dataset: str = "",
    sampling_steps: int = 0,
) -> Policy:
    """The policy of a run's checkpoint.

    Args:
      step, encoders, dataset, sampling_steps: see ``load``.
      batch_sizes: sizes compiled, ascending.
      text_cache: instructions remembered.
      num_samples, choose: chunks drawn per observation and which of them acts, see ``policy.sampling``.
    """
    trained = load(workdir, step, encoders, dataset, sampling_steps)
    return make_policy(trained, batch_sizes, text_cache, num_samples, choose)


def make_policy(
    trained: RestoredPolicy,
    batch_sizes: Sequence[int] = (1,),
    text_cache: int = 256,
    num_samples: int = 1,
    choose: str = "first",
) -> Policy:
    """A policy of these weights, on the device where they lie."""
    how = {"num_samples": num_samples, "choose": choose}
    act, encode = jax.jit(functools.partial(trained.act, **how)), jax.jit(trained.encode_text)
    network = Network(functools.partial(encode, trained.params), functools.partial(act, trained.params))
    tokenizer = make_tokenizer(trained.assets.config)
    return Policy(network, tokenizer, trained.assets.actions, trained.metadata(**how), batch_sizes, text_cache)


def fingerprint_of(params: Mapping, assets: Assets) -> str:
    """Names a checkpoint's weights and what turns their outputs into poses: two trainings to one step are two policies.

    Args:
      params: the EMA weights that the checkpoint holds, without those borrowed of encoders, which ``assets`` name.
    """
    leaves = flatten_dict(params, sep="/").items()
    parts = [part for path, leaf in sorted(leaves) for part in (path, np.asarray(leaf))]
    return fingerprint(assets.actions.to_json(), dict(assets.encoders), *parts)


def load(
    workdir: str | Path,
    step: str | int = "latest",
    encoders: Mapping[str, str] | None = None,
    dataset: str = "",
    sampling_steps: int = 0,
) -> RestoredPolicy:
    """The EMA weights of a run: of the ``latest`` or ``best`` checkpoint, or of a step.

    Args:
      encoders: where pretrained encoders lie ("vision", "text"), if not where training had them.
      dataset: of a mixture, the set to act for; "": that which training named in ``config.serve.dataset``, or the first.
      sampling_steps: network evaluations for a chunk, of an objective that lets one choose; 0: as it was trained.

    Raises:
      CheckpointError: there is none, not that one, or it is damaged.
      HubError, ConversionError, ValueError: a pretrained encoder is not there, damaged, or another one.
      ValueError: it has not learned from that data set, or its steps cannot be chosen.
    """
    nothing = f"no checkpoint in {workdir}; train first: --mode=train --workdir={workdir}"
    if not (Path(workdir) / "checkpoints").is_dir():
        raise CheckpointError(nothing)
    checkpoints = Checkpoints(workdir)
    number = {"latest": checkpoints.latest, "best": checkpoints.best}.get(step, lambda: int(step))()
    if number is None:
        raise CheckpointError(nothing)
    assets = checkpoints.restore_assets(number).of_set(dataset)
    mesh = sharding.single_device_mesh()
    config = assets.config.unlock()
    for part, name in (encoders or {}).items():
        config.model[part].name = name
    params = checkpoints.restore_ema(number, config.lock(), mesh)
    checkpoints.close()
    weights = fingerprint_of(params, assets)
    pretrained = frozen_encoders.load_encoders(config)
    frozen_encoders.check_identities(pretrained, assets.encoders)
    params = merge(params, frozen_encoders.place_frozen_encoders(config, pretrained, mesh, instructions=None).params)
    return RestoredPolicy(assets, params, number, sampling_steps, weights)
