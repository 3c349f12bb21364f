"""LeRobot's format, written: held to the description of the format, read by pyarrow and FFmpeg's program, and back again."""

import json
import shutil

import imageio_ffmpeg
import numpy as np
import pyarrow.parquet as pq
import pytest

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data import export
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.lerobot import writer as lerobot_meta
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from tests.lerobot_fixture import read_video
from tests.small import CAMERAS, PARAPHRASES, SIZE, episode

STEPS, TRAIN, EPISODES = 12, 6, 8
TASKS = [PARAPHRASES[0].format(colour) for colour in ("red", "blue")]


@pytest.fixture(scope="module")
def exported(dataset_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "set"
    export.export(dataset_path, out, 18)
    return out


def test_info_says_what_there_is(exported):
    info = json.loads((exported / "meta" / "info.json").read_text())
    assert {key: info[key] for key in info if key not in ("features", "data_path", "video_path")} == {
        "codebase_version": "v3.0", "robot_type": None, "total_episodes": 8, "total_frames": 96, "total_tasks": 2,
        "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": 20,
        "splits": {"train": "0:6", "val": "6:8"},
    }  # fmt: skip
    features = info["features"]
    for camera in CAMERAS:
        about = features[f"observation.images.{camera}"]
        assert about["dtype"] == "video" and about["shape"] == [SIZE, SIZE, 3]
        assert about["names"] == ["height", "width", "channels"]
        told = about["info"]
        path = exported / info["video_path"].format(
            video_key=f"observation.images.{camera}", chunk_index=0, file_index=0
        )
        found = next(imageio_ffmpeg.read_frames(str(path)))
        assert (
            found["source_size"] == (told["video.width"], told["video.height"])
            and found["fps"] == told["video.fps"] == 20
        )
        assert told["video.codec"] == found["codec"] == "h264" and found["pix_fmt"].startswith(told["video.pix_fmt"])
    assert features["observation.state"] == {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "gripper"]}
    assert features["action"]["names"] == ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]
    table = pq.read_table(exported / info["data_path"].format(chunk_index=0, file_index=0))
    numbers = [name for name in features if not name.startswith("observation.images.")]
    assert table.column_names == numbers
    for name in numbers:
        kind = table.schema.field(name).type
        if features[name]["shape"] == [1]:
            assert str(kind).replace("float", "float32") == features[name]["dtype"]
        else:
            assert kind.list_size == features[name]["shape"][0] and str(kind.value_type) == "float"


def test_rows_and_episodes_are_where_they_are_said_to_be(exported):
    table = pq.read_table(exported / "data" / "chunk-000" / "file-000.parquet")
    about = pq.read_table(exported / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    tasks = pq.read_table(exported / "meta" / "tasks.parquet")
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": TASKS}
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert table["index"].to_pylist() == list(range(96))
    videos = {
        camera: read_video(exported / f"videos/observation.images.{camera}/chunk-000/file-000.mp4")
        for camera in CAMERAS
    }
    for number, row in enumerate(about):
        rows = table.slice(row["dataset_from_index"], row["length"])
        demo = episode(number)
        assert (
            row["episode_index"] == number
            and row["length"] == STEPS == row["dataset_to_index"] - row["dataset_from_index"]
        )
        assert row["tasks"] == [TASKS[number % 2]] and set(rows["task_index"].to_pylist()) == {number % 2}
        assert set(rows["episode_index"].to_pylist()) == {number}
        assert rows["frame_index"].to_pylist() == list(range(STEPS))
        np.testing.assert_allclose(rows["timestamp"].to_numpy(), np.arange(STEPS) / 20, atol=1e-7)
        np.testing.assert_array_equal(np.array(rows["observation.state"].to_pylist(), np.float32), demo.state)
        np.testing.assert_array_equal(np.array(rows["action"].to_pylist(), np.float32), demo.actions)
        for place in ("data", "meta/episodes"):
            assert row[f"{place}/chunk_index"] == row[f"{place}/file_index"] == 0
        for camera in CAMERAS:
            key = f"videos/observation.images.{camera}"
            assert row[f"{key}/chunk_index"] == row[f"{key}/file_index"] == 0
            first, after = (round(20 * row[f"{key}/{name}_timestamp"]) for name in ("from", "to"))
            assert (first, after) == (STEPS * number, STEPS * (number + 1))
            brightest = [
                np.unravel_index(frame.sum(-1).argmax(), (SIZE, SIZE)) for frame in videos[camera][first:after]
            ]
            there = [
                np.unravel_index(decode_image(data).sum(-1).argmax(), (SIZE, SIZE)) for data in demo.images[camera]
            ]
            assert brightest == there


def test_statistics_are_those_of_the_numbers(exported):
    overall = json.loads((exported / "meta" / "stats.json").read_text())
    about = pq.read_table(exported / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    actions = np.concatenate([episode(number).actions for number in range(EPISODES)]).astype(float)
    for name, value in {
        "min": actions.min(0),
        "max": actions.max(0),
        "mean": actions.mean(0),
        "std": actions.std(0),
    }.items():
        np.testing.assert_allclose(overall["action"][name], value, atol=1e-6)
    assert overall["action"]["count"] == [96] and len(overall["action"]["q99"]) == 8
    first = episode(0).actions.astype(float)
    np.testing.assert_allclose(about[0]["stats/action/q90"], np.quantile(first, 0.9, axis=0), atol=1e-6)
    assert about[0]["stats/action/count"] == [STEPS]
    picture = overall["observation.images.front"]
    assert (
        np.shape(picture["mean"]) == (3, 1, 1)
        and 0.15 < picture["mean"][0][0][0] < 0.2
        and picture["max"][2] == [[1.0]]
    )


def test_it_comes_back(exported, dataset_path, tmp_path):
    settings = RecordedSettings(
        str(exported), lerobot_source.read_mapping("drifting_vla"), (), 0, (), 0, 0.0, 0.0, "fail", 1
    )
    done = convert.convert(settings, lerobot_source.open_files(settings), tmp_path)
    assert done.cameras == CAMERAS and done.state_names == ("x", "y", "z", "gripper")
    assert [len(done.splits[name]) for name in ("train", "val")] == [6, 2]
    for number, path in enumerate([*done.splits["train"], *done.splits["val"]]):
        again, demo = Episode.load(path), episode(number)
        np.testing.assert_array_equal(again.state, demo.state)
        np.testing.assert_allclose(again.actions, demo.actions, atol=1e-7)  # the quaternion is made unit once more
        assert again.instructions == demo.instructions[:1]


def test_files_are_begun_anew_when_they_are_large(dataset_path, tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_meta, "VIDEO_MB", 0)
    monkeypatch.setattr(lerobot_meta, "DATA_MB", 0)
    monkeypatch.setattr(lerobot_meta, "CHUNK", 3)
    export.export(dataset_path, tmp_path / "set", 30)
    row = pq.read_table(tmp_path / "set" / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()[4]
    key = "videos/observation.images.front"
    assert (
        (row["data/chunk_index"], row["data/file_index"])
        == (row[f"{key}/chunk_index"], row[f"{key}/file_index"])
        == (1, 1)
    )
    assert row[f"{key}/from_timestamp"] == 0 and row[f"{key}/to_timestamp"] == STEPS / 20
    settings = RecordedSettings(
        str(tmp_path / "set"), lerobot_source.read_mapping("drifting_vla"), (), 0, (), 0, 0.0, 0.0, "fail", 1
    )
    done = convert.convert(settings, lerobot_source.open_files(settings), tmp_path / "back")
    np.testing.assert_array_equal(Episode.load(done.splits["train"][4]).state, episode(4).state)


def test_what_cannot_be_written_is_refused_at_once(dataset_path, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there is there already; choose another --out"):
        export.export(dataset_path, tmp_path / "there", 18)
    copy = shutil.copytree(dataset_path, tmp_path / "data")
    path = next(copy.rglob("metadata.json"))
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"control_hz": 26.7}))
    with pytest.raises(ValueError, match="has 26.7 steps per second; LeRobot counts them in whole numbers"):
        export.export(copy, tmp_path / "out", 18)
    path.write_text(json.dumps(about | {"image_size": 15}))
    with pytest.raises(ValueError, match="have 15 px; a video .* needs an even number"):
        export.export(copy, tmp_path / "out", 18)
    assert not (tmp_path / "out").exists()
