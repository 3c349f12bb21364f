"""The build command: one for every source, no choice silently ignored, a finished data set left alone or refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from configs import metaworld_mt10, quickstart
from drifting_vla_jax.core.end_effector import STATE_NAMES, make_state
from drifting_vla_jax.core.folder_lock import InUseError, owned
from drifting_vla_jax.data import build
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources.rlbench.source import ConvertSettings
from drifting_vla_jax.data.sources.scripted import CollectSettings
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS
from tests import commands, lerobot_fixture
from tests.peract_fixture import TASKS, expected

ROOT = Path(__file__).parents[2]


def parsed(*arguments):
    """The flags of this command line."""
    values, argv = flags.FlagValues(), ["build", *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)  # where overrides of a configuration are looked for
        build.define_flags(argv, values)
        values(argv)
    return values


def read(*arguments):
    """The settings that this command line asks for."""
    return build.read_settings(parsed("--out=w", *arguments))[1]


def test_defaults_are_those_of_the_source(demos):
    made = read("--source=metaworld", "--tasks=drawer-open")
    assert isinstance(made, CollectSettings)
    assert (made.episodes, made.cameras, made.image_size, made.frame_skip) == (40, ("top", "zoom"), 64, 2)
    assert (made.simulator, made.action_noise) == ("metaworld", 0.4)


def test_robosuite_is_recorded_by_the_same_settings_with_its_own_defaults():
    """Also where robosuite is not installed: it is asked for only when it records."""
    made = read("--source=robosuite", "--tasks=lift,stack", "--hold_steps=9")
    assert isinstance(made, CollectSettings) and made.simulator == "robosuite"
    assert (made.cameras, made.image_size, made.frame_skip) == (("agentview", "wrist"), 96, 25)
    assert (made.episodes, made.action_noise, made.hold_steps) == (40, 0.2, 9)
    with pytest.raises(ValueError, match="unknown task 'drawer-open' in robosuite; it knows door, lift"):
        read("--source=robosuite", "--tasks=drawer-open")


def test_all_tasks_of_metaworld_by_one_word():
    assert len(read("--source=metaworld", "--tasks=all").tasks) == 50


def test_all_episodes_and_cameras_of_rlbench_as_they_are(demos):
    made = read("--source=peract", f"--input={demos}", "--tasks=close_jar")
    assert made == ConvertSettings(str(demos), ("close_jar",), 0, CAMERAS, 0, 0.1, "fail", 2)
    made = read("--source=peract", f"--input={demos}", "--tasks=close_jar", "--cameras=front", "--image_size=32")
    assert (made.cameras, made.image_size) == (("front",), 32)


@pytest.mark.parametrize(
    "flag", ["frame_skip=4", "action_noise=0.1", "hold_steps=3", "settle_steps=8", "seed=1", "gate=0.5"]
)
def test_choices_of_metaworld_are_refused_with_peract(flag, demos):
    name = flag.split("=")[0]
    with pytest.raises(
        ValueError, match=f"--{name} is for --source=metaworld, robosuite; --source=peract has no such choice"
    ):
        read("--source=peract", f"--input={demos}", "--tasks=close_jar", f"--{flag}")


@pytest.mark.parametrize("flag", ["input=x", "on_error=skip"])
def test_choices_of_peract_are_refused_with_metaworld(flag):
    with pytest.raises(ValueError, match=f"--{flag.split('=')[0]} is for --source=peract"):
        read("--source=metaworld", "--tasks=drawer-open", f"--{flag}")


def test_a_fraction_is_refused_where_the_splits_are_given(demos, tmp_path):
    with pytest.raises(ValueError, match="--source=peract needs --input=DIR"):
        read("--source=peract", "--tasks=close_jar")
    for split in ("train", "val"):
        (tmp_path / split / "close_jar").mkdir(parents=True)
    arguments = ("--source=peract", f"--input={tmp_path}", "--tasks=close_jar")
    assert read(*arguments).has_splits
    with pytest.raises(ValueError, match="has train and val of its own: --val_fraction would mean nothing"):
        read(*arguments, "--val_fraction=0.2")


def test_recordings_of_others_need_a_mapping_and_no_tasks(tmp_path):
    made = read("--source=lerobot", f"--input={tmp_path}", "--mapping=ee_euler", "--control_hz=5")
    assert (made.input, made.tasks, made.episodes, made.cameras, made.image_size) == (str(tmp_path), (), 0, (), 0)
    assert made.control_hz == 5 and made.mapping["action"]["kind"] == "absolute"
    assert read("--source=lerobot", "--input=owner/name", "--mapping=ee_euler").input == "owner/name"
    with pytest.raises(ValueError, match="--source=lerobot needs --mapping=PRESET or FILE.json; see"):
        read("--source=lerobot", f"--input={tmp_path}")
    with pytest.raises(
        ValueError, match="--mapping is for --source=lerobot, rlds; --source=metaworld has no such choice"
    ):
        read("--source=metaworld", "--tasks=drawer-open", "--mapping=ee_euler")
    with pytest.raises(ValueError, match="--source=metaworld needs --tasks=NAME"):
        read("--source=metaworld")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--source is missing; expected one of metaworld, "),
        (("--source=lerobt",), "unknown data source 'lerobt'; did you mean 'lerobot'"),
        (
            ("--source=drifting_vla_jax.core.suggest:did_you_mean",),
            "expected a class derived from .*base.Source, or",
        ),
        (("--config=rlbench_b2",), "--source is missing; rlbench, the simulator of --config, has no scripted experts"),
        (
            ("--source=metaworld", "--noonly_success"),
            "--noonly_success is for --source=rollouts; --source=metaworld has",
        ),
    ],
)
def test_a_source_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        read(*arguments)


def test_what_a_configuration_says_is_not_typed_again():
    config = metaworld_mt10.get_config()
    made = read("--config=metaworld_mt10", "--episodes=3")
    assert (made.simulator, made.tasks, made.cameras) == ("metaworld", config.env.tasks, config.env.cameras)
    assert (made.image_size, made.frame_skip, made.episodes) == (80, 4, 3)
    made = read("--config=metaworld_mt10", "--tasks=push", "--config.env.image_size=48", "--frame_skip=7")
    assert (made.tasks, made.image_size, made.frame_skip) == (("push",), 48, 7)
    assert read("--config=quickstart", "--source=robosuite", "--tasks=lift").simulator == "robosuite"
    assert read("--config=quickstart", "--config.env.name=robosuite", "--tasks=lift").simulator == "robosuite"
    with pytest.raises(ValueError, match="config.env.frame_skip is 0; expected a whole number, at least 1"):
        read("--config=quickstart", "--config.env.frame_skip=0")


def test_a_recording_takes_views_and_tasks_of_a_configuration(tmp_path):
    made = read("--source=rollouts", f"--input={tmp_path}", "--config=quickstart")
    assert made.tasks == quickstart.get_config().env.tasks
    made = read("--source=lerobot", f"--input={tmp_path}", "--mapping=ee_euler", "--config=quickstart", "--tasks=pour")
    assert (made.tasks, made.cameras, made.image_size) == (("pour",), ("top", "zoom"), 64)


def test_the_folder_is_the_configuration_s(tmp_path):
    def out(*arguments):
        return build.read_out(parsed("--source=metaworld", *arguments))

    assert out("--config=quickstart") == Path("data/quickstart")
    assert out("--config=quickstart", f"--out={tmp_path}") == tmp_path
    for arguments in ((), ("--config=quickstart", "--config.data.mixture.paths=('a', 'b')")):
        with pytest.raises(ValueError, match="--out is missing; expected a directory, or --config=FILE"):
            out(*arguments)


def test_a_folder_where_another_build_is_at_work_is_refused(tmp_path):
    settings = read("--source=metaworld", "--tasks=drawer-open")
    with owned(tmp_path / "set"), pytest.raises(InUseError, match="set is in use by pid"):
        build.build(settings, tmp_path / "set", "metaworld", False)
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_data_set_of_lerobot(tmp_path):
    """Built, described, left alone when it is there, refused when a choice is another."""
    root = lerobot_fixture.write_3(tmp_path / "set")
    common = ("--source=lerobot", f"--input={root}", "--mapping=ee_euler", "--val_fraction=0.3")
    folder = build.build(read(*common), tmp_path / "w", "lerobot", keep_episodes=False)
    dataset = DataSet(tmp_path / "w", ("wrist", "top"))
    assert dataset.metadata["control_hz"] == lerobot_fixture.FPS and dataset.metadata["state_names"] == list(
        STATE_NAMES
    )
    assert dataset.tasks == ["pick-up-the-cube", "open-the-drawer"] and dataset.instructions == list(
        lerobot_fixture.TASKS
    )
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (12, 9)
    assert dataset.split("val").images(3).shape == (2, 24, 24, 3)
    assert "open-the-drawer" in build.summary(folder) and "21 steps in" in build.summary(folder)
    assert build.build(read(*common), tmp_path / "w", "lerobot", False) == folder
    with pytest.raises(ValueError, match=r"made with other settings \(control_hz 0.0 -> 5.0\)"):
        build.build(read(*common, "--control_hz=5"), tmp_path / "w", "lerobot", False)


@pytest.mark.slow
def test_a_damaged_data_set_ends_the_command_with_one_line(tmp_path):
    root = lerobot_fixture.write_2(tmp_path / "set")
    (root / "videos/chunk-000/observation.images.top/episode_000002.mp4").unlink()
    flags = ("--source=lerobot", f"--input={root}", "--mapping=ee_euler", f"--out={tmp_path / 'w'}")
    done = commands.run("drifting_vla_jax.data.build", *flags)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "episode_000002.mp4 is missing" in done.stderr and not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_data_set_of_rlbench(demos, tmp_path):
    """Every row against what RLBench reads; then the same again (left alone), and something else (refused)."""
    common = ("--source=peract", f"--input={demos}", f"--tasks={','.join(TASKS)}")
    settings = read(*common)
    folder = build.build(settings, tmp_path, "peract", keep_episodes=False)
    assert not (tmp_path / ".episodes").exists()
    dataset = DataSet(tmp_path, CAMERAS)
    assert dataset.metadata["source"] == "peract" and dataset.metadata["control_hz"] == 20
    assert dataset.metadata["state_names"] == list(STATE_NAMES) and dataset.metadata["image_size"] == 64
    assert dataset.tasks == list(TASKS)
    train = dataset.split("train")
    assert len(train) == 4 * 11 and len(dataset.split("val")) == 2 * 11
    for number, name in enumerate(n for n in sorted(expected()) if not n.endswith("2")):
        want, rows = expected()[name], slice(11 * number, 11 * number + 11)
        first = make_state(want["gripper_pose_first"], want["gripper_open"][0])
        np.testing.assert_array_equal(train.state[rows][0], first)
        np.testing.assert_allclose(train.actions[rows][-1, :3], want["gripper_pose_last"][:3], atol=1e-6)
        assert train.keyframe[rows].tolist() == [11 * number + (5 if t <= 5 else 10) for t in range(11)]
        start, count = train.prompts[rows][0]
        said = [dataset.instructions[i] for i in train.prompt_ids[start : start + count]]
        assert said == want["descriptions"]
    summary = build.summary(folder)
    assert "close_jar" in summary and "3 kept    0 damaged" in summary and "66 steps in" in summary

    stamp = (folder / "metadata.json").stat().st_mtime_ns
    assert build.build(read(*common, "--workers=1"), tmp_path, "peract", False) == folder
    assert (folder / "metadata.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match=r"made with other settings \(image_size 0 -> 32\); choose another --out"):
        build.build(read(*common, "--image_size=32"), tmp_path, "peract", False)
    other = read("--source=metaworld", "--tasks=drawer-open")
    with pytest.raises(ValueError, match="source peract -> metaworld"):
        build.build(other, tmp_path, "metaworld", False)
    details = json.loads((folder / "metadata.json").read_text())["details"]
    assert details["settings"]["input"] == str(demos) and details["tasks"][0]["kept"] == 3


@pytest.mark.slow
def test_the_command_line(demos, tmp_path):
    """One clear line where a task is unknown; --help names the source of each choice."""
    command = "drifting_vla_jax.data.build"
    arguments = ["--source=peract", f"--input={demos}", "--tasks=open_drawr", f"--out={tmp_path / 'w'}"]
    done = commands.run(command, *arguments)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "did you mean 'open_drawer'?" in done.stderr and not (tmp_path / "w").exists()
    told = {
        name: " ".join(commands.run(command, *name, "--help").stdout.split()) for name in ((), ("--source=robosuite",))
    }
    assert "metaworld, robosuite, peract, lerobot, rlds, rollouts, or an import path" in told[()]
    assert "--frame_skip" not in told[()] and "--config" in told[()]
    assert "--frame_skip: simulator steps per control step (default: '25')" in told["--source=robosuite",]
