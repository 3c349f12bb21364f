"""What the builder writes: records any TFDS user can read, in the order of the small arrays, and a datasheet."""

import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.data import tfds_writer
from drifting_vla_jax.data.sources.recorded.convert import held_out
from drifting_vla_jax.data.sources.splits import held_out_count
from tests.small import CAMERAS, SIZE, TASKS, episode


@pytest.fixture(scope="module")
def folder(dataset_path):
    return tfds_writer.folder(dataset_path)


def test_record_i_is_row_i_is_a_step_of_an_episode(folder):
    low = np.load(folder / "low_dim-train.npz")
    skip = {"images": {camera: tfds.decode.SkipDecoding() for camera in CAMERAS}}
    records = tfds.builder_from_directory(str(folder)).as_data_source("train", decoders=skip)
    assert len(records) == len(low["state"]) == 6 * 12
    for row in range(len(records)):
        record, number, step = records[row], row // 12, row % 12
        demo = episode(number)
        assert (record["episode"], record["step"]) == (low["episode"][row], low["step"][row]) == (number, step)
        assert low["last"][row] == 12 * number + 11
        assert low["keyframe"][row] == 12 * number + min(k for k in (2, 4, 6, 11) if k >= step)
        assert (record["is_first"], record["is_last"]) == (step == 0, step == 11)
        assert record["task"].decode() == demo.task
        assert [text.decode() for text in record["instructions"]] == list(demo.instructions)
        np.testing.assert_array_equal(record["state"], demo.state[step])
        np.testing.assert_array_equal(low["state"][row], demo.state[step])
        np.testing.assert_array_equal(record["action"], demo.actions[step])
        np.testing.assert_array_equal(low["actions"][row], demo.actions[step])
        for camera in CAMERAS:
            assert record["images"][camera] == demo.images[camera][step]


def test_any_tfds_user_gets_pictures(folder):
    record = tfds.builder_from_directory(str(folder)).as_data_source("val")[0]
    assert record["images"]["side"].shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(record["images"]["side"], decode_image(episode(6).images["side"][0]))


def test_metadata_is_a_datasheet(folder):
    about = json.loads((folder / "metadata.json").read_text())
    assert about["source"] == "test" and about["image_size"] == SIZE and about["control_hz"] == 20.0
    assert about["cameras"] == list(CAMERAS) and about["state_names"] == ["x", "y", "z", "gripper"]
    assert about["action_names"] == ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]
    assert [e["seed"] for e in about["episodes"]["train"]] == [0, 1, 2, 3, 4, 5]
    assert [e["task"] for e in about["episodes"]["val"]] == list(TASKS)
    first = about["episodes"]["train"][0]
    assert [about["instructions"][i] for i in first["instructions"]] == [
        "go to the red ball", "reach red", "touch the red one", "find red"
    ]  # fmt: skip
    assert first["length"] == 12
    assert about["datasheet"]["made_by"].startswith("drifting_vla_jax ")
    assert {"made_at", "python"} < set(about["datasheet"])
    assert {"numpy", "tensorflow-datasets"} < set(about["datasheet"]["packages"])


@pytest.mark.parametrize("val, said", [(["0.npz"], "1 for val"), ([], "none at all")])
def test_a_data_set_with_nothing_to_train_on_is_refused(val, said, tmp_path):
    about = tfds_writer.About("test", CAMERAS, SIZE, ("x", "y", "z", "gripper"), 20.0, {})
    with pytest.raises(
        ValueError, match=rf"no episode to train on in .* \({said}\); give more episodes or a smaller val_f"
    ):
        tfds_writer.write(tmp_path, {"train": [], "val": [tmp_path / name for name in val]}, about)


@pytest.mark.parametrize(
    "episodes, fraction, held",
    [(1, 0.1, 0), (1, 0.9, 0), (2, 0.001, 1), (2, 0.99, 1), (10, 0.25, 2), (3, 0.0, 0), (3, 0.95, 2), (0, 0.5, 0)],
)
def test_a_share_is_one_episode_at_least_and_never_all(episodes, fraction, held):
    assert held_out_count(episodes, fraction) == held
    of_recordings = sum(held_out(episodes, fraction))
    assert (of_recordings > 0) == (held > 0) and (episodes == 0 or of_recordings < episodes)


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_writer_that_dies_is_one_clear_line(tmp_path):
    episode(0).save(tmp_path / "0.npz")
    about = tfds_writer.About("test", CAMERAS, SIZE, ("x", "y", "z", "gripper"), 20.0, {"deadly": Deadly()})
    with pytest.raises(OSError, match=r"the process that writes .* died, .*start again: the episodes are there"):
        tfds_writer.write(tmp_path, {"train": [tmp_path / "0.npz"]}, about)


def test_a_set_of_more_than_a_gigabyte_needs_no_tensorflow(tmp_path, monkeypatch):
    """TFDS sorts that much with TensorFlow's files, unless it is told not to."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)  # as if a record were more
    monkeypatch.setattr(shuffle, "tf", None)
    episode(0).save(tmp_path / "0.npz")
    tfds_writer._write(
        tmp_path, {"train": [tmp_path / "0.npz"]}, tfds_writer.About("test", CAMERAS, SIZE, tuple("xyzg"), 20.0, {})
    )
    assert len(tfds.builder_from_directory(str(tfds_writer.folder(tmp_path))).as_data_source("train")) == 12
