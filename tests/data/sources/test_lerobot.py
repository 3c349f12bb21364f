"""LeRobot's data sets, 2.1 and 3.0: the same frames, states and actions; and what is wrong with a damaged one."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings, task_name
from tests import lerobot_fixture as fixture

ROOT = Path(__file__).parents[3]
TOP, WRIST = fixture.SIZES


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lerobot")
    return {
        "2.1": fixture.write_2(root / "two"),
        "3.0": fixture.write_3(root / "three"),
        "2.1 images": fixture.write_2(root / "two-images", images=True),
        "3.0 images": fixture.write_3(root / "three-images", images=True),
    }


def settings(root, mapping="ee_euler", **changes) -> RecordedSettings:
    values = {"input": str(root), "mapping": lerobot_source.read_mapping(str(mapping)), "tasks": (), "episodes": 0,
              "cameras": (), "image_size": 0, "control_hz": 0.0, "val_fraction": 0.0, "on_error": "fail",
              "workers": 1}  # fmt: skip
    return RecordedSettings(**values | changes)


def converted(root, out, mapping="ee_euler", **changes) -> convert.Converted:
    chosen = settings(root, mapping, **changes)
    return convert.convert(chosen, lerobot_source.open_files(chosen), out)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@pytest.mark.parametrize("version", ["2.1", "3.0", "2.1 images", "3.0 images"])
def test_frames_states_and_actions_are_those_recorded(version, sets, tmp_path):
    done = converted(sets[version], tmp_path / "w")
    assert done.cameras == ("top", "wrist") and done.image_size == 24 and done.control_hz == fixture.FPS
    assert len(done.splits["train"]) == 3 and not done.splits["val"]
    for index, path in enumerate(done.splits["train"]):
        episode, (state, action) = Episode.load(path), fixture.numbers(index)
        assert episode.instructions == (fixture.TASKS[fixture.OF_EPISODE[index]],)
        assert episode.task == ("pick-up-the-cube", "open-the-drawer")[fixture.OF_EPISODE[index]]
        np.testing.assert_array_equal(episode.state[:, [0, 1, 2, 9]], state[:, [0, 1, 2, 6]])
        columns = Rotation.from_euler("xyz", state[:, 3:6]).as_matrix()[..., :2]
        np.testing.assert_allclose(episode.state[:, 3:9], np.swapaxes(columns, 1, 2).reshape(-1, 6), atol=1e-6)
        np.testing.assert_array_equal(episode.actions[:, [0, 1, 2, 7]], action[:, [0, 1, 2, 6]])
        turned = Rotation.from_euler("xyz", action[:, 3:6]).as_quat(canonical=True)
        np.testing.assert_allclose(episode.actions[:, 3:7], turned, atol=1e-6)
        for name, camera in (("top", TOP), ("wrist", WRIST)):
            pictures = np.stack([decode_image(data) for data in episode.images[name]])
            if "images" in version:
                there = np.stack([fixture.picture(index, row, camera) for row in range(len(episode))])
            else:
                there = fixture.seen(sets[version], index, camera)
            there = there[:, :, 4:28] if camera == TOP else there  # the middle square of 24 x 32
            assert pictures.shape == there.shape
            worst = min(map(psnr, pictures, there))
            assert worst >= (40 if "images" not in version else 90), f"{name} of episode {index}: {worst:.1f} dB"


def test_what_lerobot_s_own_writer_wrote(tmp_path):
    """PyPI's lerobot-dataset 0.4.4 wrote it (AV1, 64 px), with the numbers that are drawn here again."""
    with tarfile.open(ROOT / "tests" / "fixtures" / "lerobot-v3.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    done = converted(tmp_path / "set", tmp_path / "w", "ee_axis_angle")
    there = fixture.read_video(tmp_path / "set/videos/observation.images.top/chunk-000/file-000.mp4")
    rng, at = np.random.default_rng(0), 0
    for path, length in zip(done.splits["train"], (6, 9, 4), strict=True):
        episode = Episode.load(path)
        assert len(episode) == length and episode.instructions == ("Drop it" if length == 9 else "Pick it",)
        for step in range(length):
            state, action = rng.uniform(-1, 1, (2, 7)).astype(np.float32)
            np.testing.assert_array_equal(episode.state[step, :3], state[:3])
            np.testing.assert_array_equal(episode.actions[step, [0, 1, 2, 7]], [*action[:3], max(action[6], 0)])
            turned = Rotation.from_rotvec(action[3:6]).as_quat(canonical=True)
            np.testing.assert_allclose(episode.actions[step, 3:7], turned, atol=1e-6)
            assert psnr(decode_image(episode.images["top"][step]), there[at]) >= 40
            at += 1
    assert at == len(there)


def test_a_lower_rate_takes_the_nearest_rows_and_the_target_a_whole_step_later(sets, tmp_path):
    done = converted(sets["3.0"], tmp_path / "w", control_hz=4.0)
    episode, (state, action) = Episode.load(done.splits["train"][2]), fixture.numbers(2)
    rows = [0, 3, 5, 8]  # 0, 0.25, 0.5, 0.75 s at ten rows per second; the next would be row 10 of 9
    np.testing.assert_array_equal(episode.state[:, :3], state[rows, :3])
    np.testing.assert_array_equal(episode.actions[:, :3], action[[2, 4, 7, 8], :3])
    there = fixture.seen(sets["3.0"], 2, WRIST)[rows]
    assert min(map(psnr, (decode_image(data) for data in episode.images["wrist"]), there)) >= 40
    with pytest.raises(ValueError, match="--control_hz=15 is above the 10 rows per second that were recorded"):
        converted(sets["3.0"], tmp_path / "x", control_hz=15.0)


def test_cameras_tasks_and_episodes_can_be_chosen(sets, tmp_path):
    file = tmp_path / "arm.json"
    file.write_text(json.dumps({"preset": "ee_euler", "fit": "pad", "cameras": {"hand": WRIST, "front": TOP}}))
    done = converted(sets["2.1"], tmp_path / "w", file, cameras=("front",), tasks=("pick-up-the-cube",), image_size=16)
    assert done.cameras == ("front",) and done.image_size == 16
    assert [task["kept"] for task in done.tasks] == [2]
    picture = decode_image(Episode.load(done.splits["train"][0]).images["front"][0])
    assert picture[:2].max() == 0 and picture[8].mean() > 30  # black above and below what was wider than high
    done = converted(sets["2.1"], tmp_path / "x", episodes=1)
    assert [task["kept"] for task in done.tasks] == [1, 1]
    with pytest.raises(ValueError, match="has no task 'pick-up-a-cube'; did you mean 'pick-up-the-cube'?"):
        converted(sets["2.1"], tmp_path / "y", tasks=("pick-up-a-cube",))


def test_a_second_start_goes_on_and_one_with_other_settings_is_refused(sets, tmp_path):
    done = converted(sets["2.1"], tmp_path)
    stamps = [path.stat().st_mtime_ns for path in done.splits["train"]]
    done.splits["train"][1].unlink()
    again = converted(sets["2.1"], tmp_path)
    kept = [path.stat().st_mtime_ns for path in again.splits["train"]]
    assert (kept[0], kept[2]) == (stamps[0], stamps[2]) and kept[1] > stamps[1]
    with pytest.raises(ValueError, match="holds episodes made with other settings"):
        converted(sets["2.1"], tmp_path, image_size=16)


def test_splits_of_the_data_set_are_kept(sets, tmp_path):
    root = shutil.copytree(sets["3.0"], tmp_path / "set")
    edit(root / "meta" / "info.json", splits={"train": "0:2", "val": "2:3"})
    done = converted(root, tmp_path / "w")
    assert [len(Episode.load(path)) for path in done.splits["train"]] == [len(fixture.numbers(i)[0]) for i in range(2)]
    assert len(Episode.load(done.splits["val"][0])) == 9


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(path: Path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def replaced(table: pa.Table, name: str, values) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


DATA, VIDEO = "data/chunk-000/episode_000001.parquet", f"videos/chunk-000/{TOP}/episode_000001.mp4"
INFO = "meta/info.json"
BROKEN = {
    "no video": (lambda r: (r / VIDEO).unlink(), r"episode_000001\.mp4 is missing"),
    "cut video": (lambda r: (r / VIDEO).write_bytes((r / VIDEO).read_bytes()[:200]), "is no video that can be read"),
    "short video": (lambda r: film(r, 4, 10), "has 4 pictures; its episodes have 5 rows"),
    "slow video": (lambda r: film(r, 5, 5), "has 5 pictures per second; meta/info.json says 10"),
    "wrong fps": (lambda r: edit(r / INFO, fps=30), r"row 1 is at 0\.100 s; at the 30 rows per second of meta/info"),
    "fewer rows": (lambda r: rewrite(r / DATA, lambda t: t.slice(0, 3)), "has 3 rows; meta/ says 5"),
    "damaged parquet": (
        lambda r: (r / DATA).write_bytes((r / DATA).read_bytes()[:-30]),
        "000001.parquet cannot be read",
    ),
    "two tasks": (lambda r: columns(r, "task_index", [0, 0, 1, 1, 1]), r"task_index is \[0, 1\]"),
    "lost frames": (lambda r: columns(r, "frame_index", [0, 1, 3, 4, 5]), "frame_index is not 0 to 4"),
    "no tasks": (lambda r: (r / "meta" / "tasks.jsonl").unlink(), r"tasks\.jsonl is missing"),
    "other version": (lambda r: edit(r / INFO, codebase_version="v1.6"), "codebase_version v1.6; expected one of v2.0"),
    "no version": (lambda r: (r / INFO).write_text("{}"), "info.json: codebase_version is missing; expected a text"),
    "a way out": (lambda r: edit(r / INFO, data_path="../{episode_index}.parquet"), "leads outside"),
}


def film(root: Path, count: int, fps: float) -> None:
    fixture.write_video(root / VIDEO, [fixture.picture(1, row, TOP) for row in range(count)], fps)


def columns(root: Path, name: str, values) -> None:
    rewrite(root / DATA, lambda table: replaced(table, name, values))


@pytest.mark.parametrize("what", BROKEN)
def test_broken_input_is_named_before_anything_is_written(what, sets, tmp_path):
    breaks, message = BROKEN[what]
    root = shutil.copytree(sets["2.1"], tmp_path / "set")
    breaks(root)
    with pytest.raises(ValueError, match=message) as error:
        converted(root, tmp_path / "w")
    assert "\n" not in str(error.value) and not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"action": {"position": "actions[0:3]"}}, "the data set has no numbers 'actions'; did you mean 'action'?"),
        ({"action": {"gripper": {"field": "action[7]"}}}, "action has 7 numbers; entries 7 to 8 are asked for"),
        ({"action": {"position": "action[0:2]"}}, r"action.position is action\[0:2\]: 2 numbers; expected 3"),
        ({"cameras": {"a": "observation.images.tip"}}, "no pictures 'observation.images.tip'; did you mean '.*top'?"),
        ({"control_hz": 5}, "control_hz is for --source=rlds"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(change, message, sets, tmp_path):
    file = tmp_path / "arm.json"
    file.write_text(json.dumps({"preset": "ee_euler"} | change))
    with pytest.raises(ValueError, match=message):
        converted(sets["2.1"], tmp_path / "w", file)
    assert not (tmp_path / "w").exists()


def test_an_unknown_view_is_refused(sets, tmp_path):
    with pytest.raises(ValueError, match="unknown camera 'side'; expected some of top, wrist"):
        converted(sets["3.0"], tmp_path / "w", cameras=("side",))


def test_joint_positions_are_refused(sets, tmp_path):
    with pytest.raises(ValueError, match="koch is recorded by its joints and has no preset; write a mapping with"):
        lerobot_source.read_mapping("koch")
    root = shutil.copytree(sets["2.1"], tmp_path / "set")
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"]["action"]["names"] = ["shoulder_pan.pos", "shoulder_lift.pos", *NAMES_LEFT]
    edit(root / "meta" / "info.json", features=info["features"])
    with pytest.raises(
        ValueError, match=r"^action of .* \(shoulder_pan.pos, shoulder_lift.pos, .*\) are joint positions, and this"
    ):
        converted(root, tmp_path / "w")
    for name in ("action", "observation.state"):
        info["features"][name]["names"] = None
    edit(root / "meta" / "info.json", features=info["features"], robot_type="so101_follower")
    with pytest.raises(ValueError, match="recorded with so101_follower, are joint positions"):
        converted(root, tmp_path / "w")


def test_joints_are_read_by_a_mapping_of_joints(sets, tmp_path):
    """A folder of SO-101: five joints as they are, a gripper of 0 .. 100."""
    root = shutil.copytree(sets["2.1 images"], tmp_path / "set")
    info = json.loads((root / "meta" / "info.json").read_text())
    for name in ("action", "observation.state"):
        info["features"][name]["names"] = ["shoulder_pan.pos", "shoulder_lift.pos", *NAMES_LEFT]
    edit(root / "meta" / "info.json", features=info["features"], robot_type="so101_follower")
    done = converted(root, tmp_path / "w", "so101")
    assert done.layout.joints == ("shoulder_pan.pos", "shoulder_lift.pos", *NAMES_LEFT[:3])
    assert done.layout.grippers == ("gripper.pos",) and done.state_names == done.layout.names
    episode, (state, action) = Episode.load(done.splits["train"][2]), fixture.numbers(2)
    assert episode.layout == done.layout
    np.testing.assert_array_equal(episode.state[:, :5], state[:, :5])
    np.testing.assert_array_equal(episode.actions[:, :5], action[:, :5])
    np.testing.assert_allclose(episode.actions[:, 5], np.clip(action[:, 5] / 100, 0, 1), atol=1e-7)
    with pytest.raises(ValueError, match="observation.state has 7 numbers; entries 7 to 13 are asked for"):
        converted(root, tmp_path / "x", "aloha")


NAMES_LEFT = ["elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos", "x"]


def test_a_damaged_picture_ends_it_or_is_skipped_and_counted(sets, tmp_path):
    root = shutil.copytree(sets["2.1 images"], tmp_path / "set")

    columns(root, WRIST, [{"bytes": b"no picture", "path": ""}] * fixture.LENGTHS[1])
    with pytest.raises(ValueError, match=f"episode 1: {WRIST} cannot be decoded; --on_error=skip leaves such"):
        converted(root, tmp_path / "w")
    done = converted(root, tmp_path / "w", on_error="skip")
    assert len(done.splits["train"]) == 2 and len(done.damaged) == 1


def test_the_name_of_a_task():
    assert task_name("Pick up the  red cube, please!") == "pick-up-the-red-cube-please"
    assert task_name("öffne 2 Türen") == "öffne-2-türen" and task_name("?") == "unnamed"


def test_from_the_hub(sets, tmp_path):
    """A repository in the cache of the hub's library, with no network; another process reads the environment afresh."""
    folder = tmp_path / "hub" / "datasets--owner--arm"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    shutil.copytree(sets["3.0"], folder / "snapshots" / ("0" * 40))
    code = (
        "from drifting_vla_jax.data.sources.lerobot.reader import LeRobotFiles\n"
        "files = LeRobotFiles('owner/arm'); files.check(['action'], files.cameras); print(len(files.splits['']))"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"
