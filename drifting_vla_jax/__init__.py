"""Drifting-VLA JAX: images and an instruction in, a chunk of robot actions out, in one forward pass.

This package is light to import: a robot client or a simulator process can use ``envs``, ``wire`` and ``rollout``
without jax. The floors, lowest first:

    envs, wire, objectives        the ground: simulators, messages, losses
    data, models                  episodes in, batches out; the network
    train                         state, sharding, step, checkpoint, loop
    policy, serve                 restore -> jit -> infer; a socket in front of it
    rollout, evaluate             episodes through the socket; success rates with intervals
"""

__version__ = "0.1.0"
