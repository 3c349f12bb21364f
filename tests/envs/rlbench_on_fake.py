"""RLBench's checkouts on the fake simulator: fixtures of the contract tests (test_rlbench_contract.py, how to run them)."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.data.normalization import quaternion_from_6d
from drifting_vla_jax.envs import registry
from tests.envs import fake_coppeliasim

CHECKOUTS = [Path(path) for path in os.environ.get("RLBENCH_SRC", "").split(os.pathsep) if path]
PYREP = os.environ.get("PYREP_SRC", "")
MISSING = [
    name for name in ("cffi", "pyquaternion", "natsort", "scipy", "gymnasium") if not importlib.util.find_spec(name)
]
REPOSITORY = Path(__file__).parents[2]
SIZE, TASK = 48, "reach_target"
DOWN = [1.0, 0.0, 0.0, 0.0]  # qx qy qz qw of a gripper that points at the table
WIDTH = {"stepjam": 8, "peract": 9}


@pytest.fixture(scope="module", params=CHECKOUTS, ids=lambda path: path.name)
def checkout(request, tmp_path_factory):
    before = {name: os.environ.get(name) for name in ("COPPELIASIM_ROOT", "DISPLAY")}
    yield request.param, tmp_path_factory.mktemp("coppeliasim")
    fake_coppeliasim.uninstall()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def fake_simulator(checkout):
    return fake_coppeliasim.install(Path(PYREP), *checkout)


@pytest.fixture
def fake(fake_simulator):
    fake_simulator.ik_reach, fake_simulator.path_fails, fake_simulator.crashes = 0.3, False, False
    fake_simulator.calls.clear(), fake_simulator.rendered.clear(), fake_simulator.planned.clear()
    return fake_simulator


@pytest.fixture
def make(fake):
    """make(cameras=..., control=...) -> an adapter, closed afterwards."""
    made = []

    def make(cameras=("front",), size=SIZE, **options):
        made.append(registry.make("rlbench", cameras=cameras, image_size=size, frame_skip=1, **options))
        return made[-1]

    yield make
    for env in made:
        env.close()


def target(env) -> np.ndarray:
    return env._environment._scene.task.target.get_position()


def action(position, quaternion=DOWN, gripper=1.0) -> np.ndarray:
    return np.array([*position, *quaternion, gripper], np.float32)


def command(state) -> np.ndarray:
    """The action that leaves the gripper as the state says it is."""
    return action(state[:3], quaternion_from_6d(state[3:9]), state[9])


def skip_without_checkouts() -> None:
    """Skips the module that calls it, saying why."""
    if not CHECKOUTS or not PYREP:
        pytest.skip("RLBENCH_SRC and PYREP_SRC do not point at checkouts of RLBench and PyRep", allow_module_level=True)
    if MISSING:
        pytest.skip(f"RLBench needs packages that are not here: {', '.join(MISSING)}", allow_module_level=True)
