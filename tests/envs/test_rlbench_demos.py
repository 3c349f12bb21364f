"""Stored episodes: both trees, numbers in their order, and what is damaged by its name. No rlbench is imported."""

import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from drifting_vla_jax.envs.rlbench import demos
from drifting_vla_jax.envs.rlbench.demos import DemoError
from drifting_vla_jax.rollout.runner import episode_list
from tests.rollout.asked import asked

STATE = np.random.RandomState(7).get_state()


@pytest.fixture
def classes(monkeypatch):
    """Demo and Observation under the names that RLBench's pickles have."""
    made = {}
    for package in ("rlbench", "rlbench.backend"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    for module, name in (("rlbench.demo", "Demo"), ("rlbench.backend.observation", "Observation")):
        cls = type(name, (), {"__module__": module})
        stand_in = ModuleType(module)
        setattr(stand_in, name, cls)
        monkeypatch.setitem(sys.modules, module, stand_in)
        made[name] = cls
    return made


@pytest.fixture
def write(classes, tmp_path):
    """write(folder under the root, x of the first pose, ...) -> leaves a demonstration of four steps there."""

    def write(folder, x=0.0, variation=None, descriptions=("close the jar", "screw it on"), seed=STATE, **more):
        demo = classes["Demo"]()
        demo._observations, demo.random_seed = [], seed
        for step in range(4):
            observation = classes["Observation"]()
            observation.gripper_pose = np.array([x, 0.1, 1.0 + step, 0.0, 0.6, 0.0, -0.8])
            observation.gripper_open = float(step < 2)
            demo._observations.append(observation)
        vars(demo).update(more)
        path = tmp_path / folder
        path.mkdir(parents=True)
        (path / "low_dim_obs.pkl").write_bytes(pickle.dumps(demo))
        if variation is not None:
            (path / "variation_number.pkl").write_bytes(pickle.dumps(variation))
            (path / "variation_descriptions.pkl").write_bytes(pickle.dumps(list(descriptions)))
        return path

    return write


def peract(number: int) -> str:
    return f"close_jar/all_variations/episodes/episode{number}"


def test_peracts_tree_numbers_episodes_by_their_folders(write, tmp_path):
    for number, variation in ((10, 4), (2, 11), (0, 0)):
        write(peract(number), x=number, variation=variation)
    (tmp_path / "close_jar/all_variations/episodes/.DS_Store").write_text("")
    (tmp_path / "close_jar/all_variations/episodes/episode4").write_text("a file")
    for other in ("episode_3", "episode1_backup", ".episode3.partial", "variation3"):
        (tmp_path / "close_jar/all_variations/episodes" / other).mkdir()
    assert list(demos.folders(tmp_path, "close_jar")) == [0, 2, 10]
    stored = demos.load(tmp_path, "close_jar", 10)
    assert (stored.variation, stored.descriptions) == (4, ("close the jar", "screw it on"))
    assert stored.gripper_pose[0, 0] == 10 and stored.reset_attempts is None
    now = asked("rlbench", ["close_jar"], episodes=1, seed=2, demos=str(tmp_path))
    assert [spec.variation for spec in episode_list(**now)] == [11]


def test_stepjams_tree_numbers_every_variations_first_first(write, tmp_path):
    for variation, episode in ((10, 0), (2, 1), (2, 0)):
        write(f"turn_tap/variation{variation}/episodes/episode{episode}", x=variation + episode, num_reset_attempts=3)
    (tmp_path / "turn_tap/variation2/variation_descriptions.pkl").write_bytes(pickle.dumps(["turn it"]))
    stored = [demos.load(tmp_path, "turn_tap", number) for number in range(3)]
    assert [(s.variation, s.gripper_pose[0, 0]) for s in stored] == [(2, 2), (10, 10), (2, 3)]
    assert stored[0].descriptions == ("turn it",) and stored[1].descriptions == () and stored[0].reset_attempts == 3


def test_the_random_state_lays_out_the_same_scene(write, tmp_path):
    write(peract(0), variation=0)
    np.random.set_state(demos.load(tmp_path, "close_jar", 0).random_state)
    assert np.random.uniform() == np.random.RandomState(7).uniform()


def test_actions_are_the_next_poses(write, tmp_path):
    write(peract(0), variation=0)
    actions = demos.load(tmp_path, "close_jar", 0).actions()
    assert actions.shape == (3, 8) and actions.dtype == np.float32
    np.testing.assert_allclose(actions[:, 2], [2, 3, 4])
    np.testing.assert_allclose(actions[0, 3:7], [0, -0.6, 0, 0.8])  # the same turn, qw >= 0
    assert actions[:, 7].tolist() == [1, 0, 0]


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch evil",)


def test_what_cannot_be_used_is_named(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DemoError, match=r"no stored .* of stack_cups under .*all_variations.* or .*variation0"):
        demos.folders(tmp_path, "stack_cups")
    write(peract(0), variation=-1)
    with pytest.raises(DemoError, match="variation_number.pkl holds .*expected a whole number"):
        demos.variation(tmp_path, "close_jar", 0)
    write(peract(1), variation=0, seed=("MT19937", np.zeros(5, np.uint32), 0, 0, 0.0))
    with pytest.raises(DemoError, match="has no random state to restore"):
        demos.load(tmp_path, "close_jar", 1)
    write(peract(2), variation=0, _observations=[3])  # one, and of no kind
    with pytest.raises(DemoError, match="has no list of at least two observations"):
        demos.load(tmp_path, "close_jar", 2)
    path = write(peract(3), variation=0)
    (path / "low_dim_obs.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DemoError, match=r"low_dim_obs.pkl is refused: .*posix.system"):
        demos.load(tmp_path, "close_jar", 3)
    path = write(peract(4), variation=0)
    whole = (path / "low_dim_obs.pkl").read_bytes()
    (path / "low_dim_obs.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DemoError, match=r"low_dim_obs.pkl is damaged"):
        demos.load(tmp_path, "close_jar", 4)
    assert not (tmp_path / "evil").exists()
