"""A simulator's own Python, for tests: run by every interpreter whose PYTHONPATH has this folder.

The learner's packages cannot be imported, and the simulator "fake" (fake_simulator.py) is known. With FAKE_COPPELIASIM=
PYREP:RLBENCH:ROOT, RLBench runs from these checkouts on a stand-in for its simulator (tests/envs/fake_coppeliasim.py).
"""

import os
import sys

BLOCKED = ("jax", "jaxlib", "flax", "optax", "tensorflow", "torch", "grain", "orbax")


class Blocked:
    """Refuses to find what a rollout process must not need."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked in this process")


sys.meta_path.insert(0, Blocked)

from drifting_vla_jax.envs import registry  # noqa: E402

registry.ENVIRONMENTS["fake"] = "fake_simulator:FakeSimulator"

if "FAKE_COPPELIASIM" in os.environ:
    from pathlib import Path

    from tests.envs import fake_coppeliasim

    fake_coppeliasim.install(*map(Path, os.environ["FAKE_COPPELIASIM"].split(os.pathsep)))
