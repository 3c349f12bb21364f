"""Drifting-VLA JAX: images and an instruction in, a chunk of robot actions out, in one forward pass.

The package is light to import: a robot client or a simulator's process uses ``core``, ``envs``, ``wire``, ``rollout`` and
``robot`` without jax. CONTRIBUTING.md lists the rooms, floor by floor.
"""

import importlib.metadata
import tomllib
from pathlib import Path

from drifting_vla_jax.core import renamed


def _version() -> str:
    """The version that pyproject.toml states: of the installed package, or of the source tree that this file lies in."""
    try:
        return importlib.metadata.version("drifting-vla-jax")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"] if project.is_file() else "unknown"


__version__ = _version()

renamed.install()
