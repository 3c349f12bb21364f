"""Drifting-VLA JAX: images and an instruction in, a chunk of robot actions out, in one forward pass.

This package is light to import: a robot client or a simulator process can use ``envs``, ``wire`` and ``rollout``
without jax. The floors, lowest first:

    envs, wire, objectives        the ground: simulators, messages, losses
    data, models                  episodes in, batches out; the network
    train                         state, sharding, step, checkpoint, loop
    policy, serve                 restore -> jit -> infer; a socket in front of it
    rollout, evaluate             episodes through the socket; success rates with intervals
"""

import importlib.metadata
import tomllib
from pathlib import Path


def _version() -> str:
    """The version that pyproject.toml states: of the installed package, or of the source tree that this file lies in."""
    try:
        return importlib.metadata.version("drifting-vla-jax")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"] if project.is_file() else "unknown"


__version__ = _version()
