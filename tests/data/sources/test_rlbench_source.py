"""RLBench demonstrations as episodes: what is the target of what, which pictures, which split, and what of damage."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.end_effector import make_action, make_state
from drifting_vla_jax.core.episode import Episode, decode_image, encode_png
from drifting_vla_jax.data.sources.rlbench import source as rlbench_source
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
from drifting_vla_jax.data.sources.rlbench.source import ConvertSettings, convert, to_episode
from drifting_vla_jax.envs.rlbench.demos import DemoError
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS
from tests.peract_fixture import TASKS, expected

NAME = "train/close_jar/all_variations/episodes/episode1"


@pytest.fixture
def settings(demos):
    return ConvertSettings(str(demos), TASKS, 0, ("front", "wrist"), 0, 0.1, "fail", workers=1)


@pytest.fixture
def own(demos, tmp_path):
    """A copy of the demonstrations that a test may change."""
    return Path(shutil.copytree(demos, tmp_path / "own"))


def test_the_target_of_a_row_is_where_the_hand_was_one_step_later(demos):
    demo = read_demo(demos / NAME)
    episode = to_episode(demo, CAMERAS, 0)
    assert len(episode) == len(demo) - 1 == 11 and episode.state.dtype == np.float32
    np.testing.assert_array_equal(episode.state, make_state(demo.gripper_pose[:-1], demo.gripper_open[:-1]))
    np.testing.assert_array_equal(episode.actions, make_action(demo.gripper_pose[1:], demo.gripper_open[1:]))
    np.testing.assert_allclose(episode.actions[:, :3], demo.gripper_pose[1:, :3], atol=1e-7)
    assert episode.actions[:, 7].tolist() == expected()[NAME]["gripper_open"][1:]
    np.testing.assert_allclose(np.linalg.norm(episode.actions[:, 3:7], axis=1), 1.0, atol=1e-6)
    assert (episode.actions[:, 6] >= 0).all()
    assert (episode.task, episode.variation, episode.seed) == ("close_jar", 4, -1)
    assert list(episode.instructions) == expected()[NAME]["descriptions"]


def test_a_keyframe_row_has_the_keyframes_pose_as_its_target(demos):
    """Keyframes at time steps 6 (the gripper closes) and 11 (the last) are the targets of rows 5 and 10."""
    demo = read_demo(demos / NAME)
    episode = to_episode(demo, ("front",), 0)
    assert episode.keyframes == (5, 10)
    np.testing.assert_allclose(episode.actions[[5, 10], :3], demo.gripper_pose[[6, 11], :3], atol=1e-7)
    assert episode.actions[[4, 5], 7].tolist() == [1.0, 0.0]  # it closes at the keyframe


def test_pictures_are_used_as_they_are_or_resized(demos):
    demo = read_demo(demos / NAME)
    episode = to_episode(demo, CAMERAS, 0)
    assert list(episode.images) == list(CAMERAS)
    assert episode.images["wrist"][3] == (demos / NAME / "wrist_rgb/3.png").read_bytes()
    small = decode_image(to_episode(demo, ("wrist",), 32).images["wrist"][3])
    whole = demo.rgb("wrist", 3).reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert small.shape == (32, 32, 3) and np.abs(small - whole).max() <= 1


def stems(paths) -> list[str]:
    return [f"{path.parts[-3]}/{path.parent.name}/{path.stem}" for path in paths]


def test_a_folder_without_val_is_divided(settings, tmp_path):
    splits, size, reports = convert(settings, tmp_path)
    names = [f"{task}/all_variations-episode{i}" for task in TASKS for i in range(3)]
    assert stems(splits["train"]) == [f"all/{n}" for n in names if not n.endswith("2")] and size == 64
    assert stems(splits["val"]) == [f"all/{n}" for n in names if n.endswith("2")]
    assert [(r.task, r.folder, r.kept, r.mean_length, r.damaged) for r in reports] == [
        (t, "train", 3, 11.0, ()) for t in TASKS
    ]
    inside = dataclasses.replace(settings, input=str(Path(settings.input) / "train"), val_fraction=0.0)
    splits, *_ = convert(inside, tmp_path / "inside")
    assert (len(splits["train"]), len(splits["val"])) == (6, 0)


def test_an_empty_val_is_no_split(settings, own):
    (own / "val").mkdir()
    assert dataclasses.replace(settings, input=str(own)).folders() == {"": own / "train"}


def test_train_and_val_are_kept_apart_where_both_are_there(settings, own, tmp_path):
    for task in TASKS:
        shutil.copytree(own / "train" / task, own / "val" / task)
    both = dataclasses.replace(settings, input=str(own), episodes=2)
    splits, _, reports = convert(both, tmp_path / "out")
    for split in ("train", "val"):
        assert stems(splits[split]) == [f"{split}/{task}/all_variations-episode{i}" for task in TASKS for i in range(2)]
    assert [(r.folder, r.kept) for r in reports] == [("train", 2), ("train", 2), ("val", 2), ("val", 2)]


def test_finished_episodes_are_not_converted_again(settings, tmp_path):
    splits, *_ = convert(settings, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in splits["train"]}
    splits["train"][0].unlink()
    again, *_ = convert(settings, tmp_path)
    assert again == splits
    assert [p for p in stamps if p.stat().st_mtime_ns != stamps[p]] == [splits["train"][0]]
    with pytest.raises(ValueError, match=r"made with other settings \(image_size 0 -> 32\)"):
        convert(dataclasses.replace(settings, image_size=32), tmp_path)


def test_a_damaged_episode_ends_it_or_is_counted(settings, own, tmp_path):
    picture = own / "train/open_drawer/all_variations/episodes/episode1/front_rgb/3.png"
    picture.write_bytes(picture.read_bytes()[:300])
    fails = dataclasses.replace(settings, input=str(own))
    with pytest.raises(DemoError, match=r"episode1/front_rgb/3\.png: a PNG .*; --on_error=skip leaves such"):
        convert(fails, tmp_path / "out")
    splits, _, reports = convert(dataclasses.replace(fails, on_error="skip"), tmp_path / "out")
    assert (len(splits["train"]), len(splits["val"])) == (2 + 1, 2)
    assert reports[1].kept == 2 and str(picture) in reports[1].damaged[0]
    picture.unlink()
    picture.mkdir()  # a folder in its place
    assert convert(dataclasses.replace(fails, on_error="skip"), tmp_path / "folder")[2][1].kept == 2
    lines = list(rlbench_source.report_lines([dataclasses.asdict(r) for r in reports]))
    assert "2 kept    1 damaged and skipped" in lines[1] and str(picture) in lines[2]
    few = dataclasses.replace(fails, on_error="skip", episodes=2)  # two good ones: the third takes the second's place
    assert [p.stem for p in convert(few, tmp_path / "out")[0]["val"]] == [
        "all_variations-episode1", "all_variations-episode2"
    ]  # fmt: skip
    for number in (0, 2):
        shutil.rmtree(own / f"train/open_drawer/all_variations/episodes/episode{number}")
    with pytest.raises(DemoError, match="no good episode of open_drawer in .*; 1 are damaged: "):
        convert(dataclasses.replace(fails, on_error="skip"), tmp_path / "none")


def test_pictures_of_different_sizes_need_a_size(settings, own, tmp_path):
    for path in (own / "train/open_drawer").glob("*/*/episode0/*_rgb/*.png"):
        path.write_bytes(encode_png(np.zeros((48, 48, 3), np.uint8)))
    mixed = dataclasses.replace(settings, input=str(own))
    with pytest.raises(ValueError, match=r"differ in size \(64 px in .*, 48 px in open_drawer .*give --image_size"):
        convert(mixed, tmp_path / "out")
    splits, size, _ = convert(dataclasses.replace(mixed, image_size=32), tmp_path / "small")
    assert size == 32
    for path in splits["train"]:
        assert decode_image(Episode.load(path).images["front"][0]).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": ("open_drawr",)}, r"no folder 'open_drawr' in .*; did you mean 'open_drawer'\?"),
        ({"tasks": ()}, "one or more different names"),
        ({"cameras": ("frnt",)}, "unknown camera 'frnt' of RLBench; did you mean 'front'"),
        ({"cameras": ()}, "name at least one camera of left_shoulder"),
        ({"val_fraction": 1.0}, "val_fraction must be in 0"),
        ({"input": "nowhere"}, "there is no folder nowhere; fetch one with python -m drifting_vla_jax.data.download"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(settings, **change)
