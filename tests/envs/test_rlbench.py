"""What the adapter says where there is no RLBench, and what of it needs none. The rest is in test_rlbench_contract.py."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from configs import rlbench_b2, rlbench_l2
from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.core.end_effector import STATE_NAMES
from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.rlbench import check, control
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS, ONLY_PERACT, TASKS


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Somewhere a simulator could be."""
    monkeypatch.setenv("COPPELIASIM_ROOT", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("rlbench", "pyrep")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rlbench", None)  # not installed, whatever this Python has


def make(**options):
    return registry.make("rlbench", **{"cameras": ("front",), "image_size": 64, "frame_skip": 1, **options})


def test_a_missing_package_is_an_error_with_the_way_to_it(place):
    with pytest.raises(ModuleNotFoundError, match=r"RLBench is not installed: docker/rollout.Dockerfile .*pip install"):
        make()


def test_a_package_that_rlbench_misses_is_named(place, monkeypatch):
    rlbench = ModuleType("rlbench")
    rlbench.__path__ = []
    monkeypatch.setitem(sys.modules, "rlbench", rlbench)
    monkeypatch.setattr(
        "importlib.import_module",
        lambda name: (_ for _ in ()).throw(ModuleNotFoundError("No module named 'natsort'", name="natsort")),
    )
    from drifting_vla_jax.envs.rlbench import installation

    with pytest.raises(ModuleNotFoundError, match="which RLBench needs: pip install natsort"):
        installation.find()


def test_a_library_that_is_not_found_is_explained(place, monkeypatch):
    error = ImportError("libcoppeliaSim.so.1: cannot open shared object file")
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(error))
    from drifting_vla_jax.envs.rlbench import installation

    with pytest.raises(ImportError, match=r"libcoppeliaSim.so.1: .*LD_LIBRARY_PATH must have .* before Python starts"):
        installation.find()


def test_a_simulator_without_a_place_is_an_error(place, monkeypatch):
    monkeypatch.delenv("DISPLAY")
    with pytest.raises(envs.EnvCrashError, match="DISPLAY is not set.* xvfb-run -a"):
        make()
    monkeypatch.setenv("COPPELIASIM_ROOT", "/nowhere")
    with pytest.raises(envs.EnvCrashError, match="COPPELIASIM_ROOT is '/nowhere', which is no folder"):
        make()
    monkeypatch.delenv("COPPELIASIM_ROOT")
    with pytest.raises(envs.EnvCrashError, match="COPPELIASIM_ROOT is not set; expected where CoppeliaSim 4.1.0"):
        make()


def test_the_self_test_says_why(place):
    with pytest.raises(ImportError, match="RLBench is not installed"):
        check.main([])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cameras": ("fromt",)}, "unknown camera 'fromt' of rlbench; expected one of left_shoulder"),
        ({"frame_skip": 2}, "frame_skip is 2; .*expected 1"),
        ({"image_size": 0}, "image_size is 0"),
        ({"demos": "/nowhere"}, "demos is '/nowhere', which is no folder"),
        ({"speed": 2}, "rlbench has no option 'speed'; its options: control, headless"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)


def test_options_of_another_simulator_are_refused():
    with pytest.raises(ValueError, match="dummy has no stored episodes to start from"):
        registry.make("dummy", cameras=(), image_size=8, frame_skip=1, demos="x")
    with pytest.raises(ValueError, match="dummy has no option 'control'; its options: none"):
        registry.make("dummy", cameras=(), image_size=8, frame_skip=1, control="plan")


def test_control_is_one_of_three():
    with pytest.raises(ValueError, match="control is 'fly'; expected one of ik_then_plan, plan, ik"):
        control.make_control(SimpleNamespace(ik=True), "fly")
    with pytest.raises(ValueError, match="this RLBench has no EndEffectorPoseViaIK; expected plan"):
        control.make_control(SimpleNamespace(ik=False), "ik")


def test_when_a_target_is_no_move():
    here = np.array([0.3, 0.1, 1.0, 0.0, 1.0, 0.0, 0.0])
    turned = [0.0, np.cos(np.radians(0.2)), np.sin(np.radians(0.2)), 0.0]  # 0.4 degrees
    assert control.is_still(here, here)
    assert control.is_still(here, -here * [-1, -1, -1, 1, 1, 1, 1])  # the same turn
    assert control.is_still(here, here.astype(np.float32) + [1e-4, 0, 0, 0, 0, 0, 0])
    assert not control.is_still(here, here + [3e-4, 0, 0, 0, 0, 0, 0])
    assert not control.is_still(here, [*here[:3], *turned])


def test_a_configuration_that_rlbench_cannot_carry_out_is_refused_before_training():
    config = rlbench_b2.get_config()
    config.env.frame_skip = 2
    with pytest.raises(ValueError, match="config.env.frame_skip is 2; RLBench has no steps to skip: expected 1"):
        config_lib.validate(config)


def test_the_experiments_are_the_protocol():
    assert len(TASKS) == 18 and set(ONLY_PERACT) < set(TASKS)
    for module, width in ((rlbench_b2, 768), (rlbench_l2, 1024)):
        config = module.get_config()
        config_lib.validate(config)
        assert config.name == module.__name__.split(".")[1] and config.model.width == width
        assert config.env.name == "rlbench" and config.env.tasks == TASKS and config.env.frame_skip == 1
        assert set(config.env.cameras) <= set(CAMERAS) and config.env.state_dim == len(STATE_NAMES)
        assert (config.eval.episodes, config.eval.seed, config.eval.hold_steps) == (25, 0, 1)
        assert config.eval.demos and config.env.rlbench.control in control.CONTROLS
