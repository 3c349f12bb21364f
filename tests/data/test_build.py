"""The build command: one for every source, no choice silently ignored, a finished data set left alone or refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from drifting_vla_jax.core.end_effector import STATE_NAMES, make_state
from drifting_vla_jax.core.folder_lock import InUseError, owned
from drifting_vla_jax.data import build, sources
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources.rlbench.source import ConvertSettings
from drifting_vla_jax.data.sources.scripted import CollectSettings
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS
from tests import lerobot_fixture
from tests.peract_fixture import TASKS, expected

ROOT = Path(__file__).parents[2]


@pytest.fixture
def read(monkeypatch):
    """read("--source=...", ...) -> the settings that this command line asks for."""
    values = flags.FlagValues()
    names = ("DEFINE", "DEFINE_enum", "DEFINE_list", "DEFINE_integer", "DEFINE_string", "DEFINE_float", "DEFINE_bool")
    for name in names:
        original = getattr(flags, name)
        monkeypatch.setattr(flags, name, lambda *a, original=original, **k: original(*a, flag_values=values, **k))
    build.define_flags()
    for module in (build, sources):
        monkeypatch.setattr(module, "FLAGS", values)

    def read(*arguments):
        values.unparse_flags()
        values(["build", "--out=w", *arguments])
        return build.read_settings()

    return read


def test_defaults_are_those_of_the_source(read, demos):
    made = read("--source=metaworld", "--tasks=drawer-open")
    assert isinstance(made, CollectSettings)
    assert (made.episodes, made.cameras, made.image_size, made.frame_skip) == (40, ("top", "zoom"), 64, 2)
    assert (made.simulator, made.action_noise) == ("metaworld", 0.4)


def test_robosuite_is_recorded_by_the_same_settings_with_its_own_defaults(read):
    """Also where robosuite is not installed: it is asked for only when it records."""
    made = read("--source=robosuite", "--tasks=lift,stack", "--hold_steps=9")
    assert isinstance(made, CollectSettings) and made.simulator == "robosuite"
    assert (made.cameras, made.image_size, made.frame_skip) == (("agentview", "wrist"), 96, 25)
    assert (made.episodes, made.action_noise, made.hold_steps) == (40, 0.2, 9)
    with pytest.raises(ValueError, match="unknown task 'drawer-open' in robosuite; it knows door, lift"):
        read("--source=robosuite", "--tasks=drawer-open")


def test_all_tasks_of_metaworld_by_one_word(read):
    assert len(read("--source=metaworld", "--tasks=all").tasks) == 50


def test_all_episodes_and_cameras_of_rlbench_as_they_are(read, demos):
    made = read("--source=peract", f"--input={demos}", "--tasks=close_jar")
    assert made == ConvertSettings(str(demos), ("close_jar",), 0, CAMERAS, 0, 0.1, "fail", 2)
    made = read("--source=peract", f"--input={demos}", "--tasks=close_jar", "--cameras=front", "--image_size=32")
    assert (made.cameras, made.image_size) == (("front",), 32)


@pytest.mark.parametrize(
    "flag", ["frame_skip=4", "action_noise=0.1", "hold_steps=3", "settle_steps=8", "seed=1", "gate=0.5"]
)
def test_choices_of_metaworld_are_refused_with_peract(flag, read, demos):
    name = flag.split("=")[0]
    with pytest.raises(ValueError, match=f"--{name} is for --source=metaworld; --source=peract has no such choice"):
        read("--source=peract", f"--input={demos}", "--tasks=close_jar", f"--{flag}")


@pytest.mark.parametrize("flag", ["input=x", "on_error=skip"])
def test_choices_of_peract_are_refused_with_metaworld(flag, read):
    with pytest.raises(ValueError, match=f"--{flag.split('=')[0]} is for --source=peract"):
        read("--source=metaworld", "--tasks=drawer-open", f"--{flag}")


def test_a_fraction_is_refused_where_the_splits_are_given(read, demos, tmp_path):
    with pytest.raises(ValueError, match="--source=peract needs --input=DIR"):
        read("--source=peract", "--tasks=close_jar")
    for split in ("train", "val"):
        (tmp_path / split / "close_jar").mkdir(parents=True)
    arguments = ("--source=peract", f"--input={tmp_path}", "--tasks=close_jar")
    assert read(*arguments).has_splits
    with pytest.raises(ValueError, match="has train/ and val/ of its own: --val_fraction would mean nothing"):
        read(*arguments, "--val_fraction=0.2")


def test_recordings_of_others_need_a_mapping_and_no_tasks(read, tmp_path):
    made = read("--source=lerobot", f"--input={tmp_path}", "--mapping=ee_euler", "--control_hz=5")
    assert (made.input, made.tasks, made.episodes, made.cameras, made.image_size) == (str(tmp_path), (), 0, (), 0)
    assert made.control_hz == 5 and made.mapping["action"]["kind"] == "absolute"
    assert read("--source=lerobot", "--input=owner/name", "--mapping=ee_euler").input == "owner/name"
    with pytest.raises(ValueError, match="--source=lerobot needs --input=DIR and --mapping=PRESET or FILE.json"):
        read("--source=lerobot", f"--input={tmp_path}")
    with pytest.raises(ValueError, match="--mapping is for --source=lerobot; --source=metaworld has no such choice"):
        read("--source=metaworld", "--tasks=drawer-open", "--mapping=ee_euler")
    with pytest.raises(ValueError, match="--source=metaworld needs --tasks=NAME"):
        read("--source=metaworld")


def test_a_folder_where_another_build_is_at_work_is_refused(read, tmp_path):
    settings = read("--source=metaworld", "--tasks=drawer-open")
    with owned(tmp_path / "set"), pytest.raises(InUseError, match="set is in use by pid"):
        build.build(settings, tmp_path / "set", "metaworld", False)
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_data_set_of_lerobot(read, tmp_path):
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
    command = [sys.executable, "-m", "drifting_vla_jax.data.build", "--source=lerobot", f"--input={root}",
               "--mapping=ee_euler", f"--out={tmp_path / 'w'}"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "episode_000002.mp4 is missing" in done.stderr and not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_data_set_of_rlbench(read, demos, tmp_path):
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
    command = [sys.executable, "-m", "drifting_vla_jax.data.build"]
    arguments = ["--source=peract", f"--input={demos}", "--tasks=open_drawr", f"--out={tmp_path / 'w'}"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert "did you mean 'open_drawer'?" in done.stderr and not (tmp_path / "w").exists()
    told = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120).stdout
    assert "metaworld (2), robosuite (25): simulator steps per control step" in " ".join(told.split())
    assert "lerobot, rlds: name of a preset" in " ".join(told.split())
