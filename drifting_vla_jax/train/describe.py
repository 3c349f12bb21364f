"""What a configuration amounts to, without data: parameters by module, operations, memory, layout over devices."""

from __future__ import annotations

import math

import jax
from ml_collections import ConfigDict

from drifting_vla_jax.objectives.objective import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.optimizer import trainable
from drifting_vla_jax.train.state import abstract_state, init_params, init_state
from drifting_vla_jax.train.step import objective_loss, sample_chunks
from drifting_vla_jax.types import abstract, fake_batch


def describe(config: ConfigDict) -> str:
    """A few lines of text for ``--mode=describe``."""
    mesh = sharding.make_mesh(config)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    learned = trainable(params, config)
    rows = []
    for name in params:
        count = _count(params[name])
        rows.append((name, count, count if all(jax.tree.leaves(learned[name])) else 0))
    total, train = sum(r[1] for r in rows), sum(r[2] for r in rows)
    state = abstract_state(config, mesh)
    per_device = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))
    h, z = config.action.horizon, config.model.noise_dim
    lines = [f"{'module':24s} {'parameters':>12s} {'trainable':>12s}"]
    lines += [f"{name:24s} {count:12,d} {learns:12,d}" for name, count, learns in sorted(rows, key=lambda r: -r[1])]
    lines += [
        f"{'total':24s} {total:12,d} {train:12,d}",
        "",
        f"mesh                     {dict(mesh.shape)} on {mesh.devices.flat[0].platform}",
        f"train state per device   {per_device / 1e6:.1f} MB (parameters, EMA, optimiser)",
        f"train step               {_train_flops(config, params) / 1e9:.2f} GFLOP forward and backward, "
        f"{config.data.batch_size} observations",
        f"policy call              {_policy_flops(config, params) / 1e6:.1f} MFLOP, one observation, "
        f"{make_objective(config).evaluations_per_chunk} network evaluation(s)",
        f"observation              {len(config.env.cameras)} views ({', '.join(config.env.cameras)}) of "
        f"{config.env.image_size} px, state of {config.env.state_dim}",
        f"chunk                    {h} steps of x y z qx qy qz qw gripper; noise {h} x {z}",
    ]
    return "\n".join(lines)


def _count(tree) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _flops(function, *args) -> float:
    """XLA's own count for the compiled-for-this-backend operations of a function, without compiling it."""
    return jax.jit(function).lower(*args).cost_analysis()["flops"]


def _train_flops(config: ConfigDict, params) -> float:
    batch = abstract(fake_batch(config, config.data.batch_size, prompts=8))
    objective = make_objective(config)

    def loss(p, batch):
        return objective_loss(p, batch, jax.random.key(0), config, objective, init_state(config).bank)[0]

    return _flops(jax.grad(loss), params, batch)


def _policy_flops(config: ConfigDict, params) -> float:
    observation = abstract(fake_batch(config, 1, prompts=1).observation)
    noise = jax.ShapeDtypeStruct((1, 1, config.action.horizon, config.model.noise_dim), "float32")
    return _flops(lambda p, o, n: sample_chunks(p, o, n, config), params, observation, noise)
