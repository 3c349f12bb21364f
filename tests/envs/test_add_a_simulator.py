"""The how-to page "Add a simulator": its code, as files outside the package, from demonstrations to an evaluated policy."""

import importlib
import re
import sys
from pathlib import Path

import jax
import pytest

from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.data.sources import scripted as demonstrations
from drifting_vla_jax.envs import registry
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured, folder
from drifting_vla_jax.evaluate.conditions import of_environment
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import loop
from tests.small import SIZE, small_config, write_episodes

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-simulator.md"
NAME = "my_lab.my_sim:MySim"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The folder with the page's two files, on the path of this process and of those that it starts."""
    simulator, configuration = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "my_sim.py").write_text(simulator)
    (tmp_path / "my_config.py").write_text(configuration)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] in ("my_lab", "my_config")]:
        del sys.modules[name]


@pytest.fixture
def config(lab):
    """The page's configuration with a small network."""
    page, small = importlib.import_module("my_config").get_config(), small_config()
    small.env = page.env
    small.env.image_size = SIZE
    return small


def test_what_cannot_be_is_said_in_one_line(config):
    config_lib.validate(config)
    assert [c.group for c in of_environment(registry.info(NAME))].count("changed") == 0
    for key, value, line in (
        ("near", 0.5, "config.env.my_sim.near is 0.5; expected a number, above 0 and at most 0.1"),
        ("name", "my_lab.my_sim:MySym", "module my_lab.my_sim has no 'MySym'; did you mean 'MySim'"),
        ("name", "my_lab.no_sim:MySim", "there is no module 'my_lab.no_sim'"),
        ("name", "my_lab.my_sim:Settings", "my_lab.my_sim:Settings is no simulator"),
    ):
        changed = config.copy_and_resolve_references()
        (changed.env.my_sim if key == "near" else changed.env)[key] = value
        with pytest.raises(config_lib.ConfigError, match=re.escape(line)):
            config_lib.validate(changed)
    for name in ("my_lab.my_sim:Settings", "my_arm:Driver", "fast", ["x"]):  # what a report may find in a file
        assert registry.info_if_known(name).title == str(name)
    with config.unlocked():
        del config.env.my_sim
    with pytest.raises(config_lib.ConfigError, match="config.env.my_sim is missing: the settings of the simulator"):
        config_lib.validate(config)


@pytest.mark.slow
def test_the_simulator_of_the_page(lab, config):
    build = {**registry.info(NAME).build, "image_size": SIZE}
    settings = demonstrations.CollectSettings(
        tasks=("reach-ball",), episodes=4, **build, hold_steps=3, settle_steps=2, seed=0, val_fraction=0.25, gate=1.0,
        workers=1, simulator=NAME,
    )  # fmt: skip
    assert demonstrations.collect(settings, lab).tasks[0].replayed == 4
    episodes = [episode for split in ("train", "val") for episode in demonstrations.read_episodes(settings, lab, split)]
    config.data.path = str(write_episodes(lab / "set", episodes, held_out=1))
    config.train.steps = config.train.eval_every = config.train.save_every = 2
    config.train.warmup_steps = 1
    config.eval.update(episodes=1, max_steps=12, workers=1, videos=1, video_camera="above")
    loop.train(config, lab / "run", jax.devices()[:1])
    policy = restore(lab / "run", batch_sizes=batch_sizes(config))

    config.env.my_sim.near = 0.1
    out = folder(policy.metadata, config, lab / "run")
    assert out.name.endswith("-0.1")  # settings other than by default are an evaluation of their own
    results = evaluate_configured(policy, config, out)
    assert results["overall"]["n"] == 1 and results["overall"]["unscored"] == 0
    assert results["settings"]["environment"] == NAME and results["settings"]["near"] == 0.1
    assert len(list((out / "videos").glob("*.mp4"))) == 1
