"""Opening a data set: without tensorflow, for the views asked for, and with one clear line when it does not fit."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.data.dataset import DataSet
from tests.small import CAMERAS, SIZE, TASKS, episode

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(dataset_path):
    return DataSet(dataset_path, CAMERAS)


def test_split_is_the_episodes_laid_end_to_end(dataset):
    val = dataset.split("val")
    assert len(val) == 24 and dataset.tasks == list(TASKS)
    np.testing.assert_array_equal(val.state, np.concatenate([episode(6).state, episode(7).state]))
    np.testing.assert_array_equal(val.actions, np.concatenate([episode(6).actions, episode(7).actions]))
    assert val.last.tolist() == [11] * 12 + [23] * 12
    assert [dataset.tasks[i] for i in val.task] == [TASKS[0]] * 12 + [TASKS[1]] * 12
    for row, number in ((0, 6), (23, 7)):
        first, count = val.prompts[row]
        ids = val.prompt_ids[first : first + count]
        assert tuple(dataset.instructions[i] for i in ids) == episode(number).instructions


@pytest.mark.parametrize("cache_mb", [0, 1])
def test_images_are_the_views_of_the_row_cached_or_not(dataset, cache_mb):
    val = dataset.split("val", cache_mb)
    assert (val.cache is not None) == bool(cache_mb)
    for _ in range(2):  # the second time from memory
        expected = [decode_image(episode(7).images[camera][3]) for camera in CAMERAS]
        np.testing.assert_array_equal(val.images(15), expected)


def test_chunks_start_with_a_step_a_stride_or_the_next_keyframe(dataset, config):
    """Episodes of rows 0 - 11 and 12 - 23, with keyframes at steps 2, 4, 6 and 11."""
    val = dataset.split("val")
    assert val.ahead(config.action).tolist() == list(range(24))
    config.action.stride = 5
    assert val.ahead(config.action)[[0, 6, 7, 9, 12]].tolist() == [4, 10, 11, 11, 16]
    config.action.stride, config.action.keyframes = 1, True
    assert val.ahead(config.action)[[0, 6, 7, 12, 19]].tolist() == [2, 6, 11, 14, 23]
    with pytest.raises(ValueError, match=r"config.action.keyframes is True, but the data set has no keyframes"):
        dataclasses.replace(val, keyframe=None).ahead(config.action)


def test_earlier_rows_stay_within_their_episode(dataset):
    val = dataset.split("val")  # rows 0 - 11 and 12 - 23
    assert val.rows_before(5, 2, 2).tolist() == [1, 3, 5]
    assert val.rows_before(13, 2, 2).tolist() == [12, 12, 13]
    assert val.rows_before(0, 1, 1).tolist() == [0, 0] and val.rows_before(23, 0, 1).tolist() == [23]


def test_views_come_in_the_order_asked_for(dataset_path, dataset):
    turned = DataSet(dataset_path, ("side", "front")).split("val").images(0)
    np.testing.assert_array_equal(turned, dataset.split("val").images(0)[::-1])
    assert DataSet(dataset_path, ("side",)).split("val").images(0).shape == (1, SIZE, SIZE, 3)


def test_statistics_are_those_of_the_training_split(dataset, config):
    space = dataset.action_space(config)
    state = np.concatenate([episode(i).state for i in range(6)])
    np.testing.assert_allclose(space.state_mean, state.mean(0), rtol=1e-5)
    assert space.horizon == config.action.horizon and space.frame == "relative"


def test_nothing_that_trains_evaluates_or_serves_imports_tensorflow_or_torch(dataset_path):
    """One process that reads the data set and imports every command's modules."""
    code = f"""
import sys
from drifting_vla_jax.data.dataset import DataSet
assert DataSet({str(dataset_path)!r}, ("front",)).split("train").images(3).shape == (1, {SIZE}, {SIZE}, 3)
import drifting_vla_jax.main, drifting_vla_jax.train.loop, drifting_vla_jax.policy.restore
import drifting_vla_jax.serve.server, drifting_vla_jax.evaluate.evaluate, drifting_vla_jax.data.pipeline
loaded = sorted({{"tensorflow", "torch"}} & set(sys.modules))
assert not loaded, loaded
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_missing_data_set_says_how_to_make_one(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no data set at .*nowhere; make one with: python -m .*data\.build --source"
    ):
        DataSet(tmp_path / "nowhere", CAMERAS)


def test_another_camera_is_refused(dataset_path):
    with pytest.raises(ValueError, match=r"has cameras front, side; config.env.cameras asks for 'wrist'"):
        DataSet(dataset_path, ("front", "wrist"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", 32, r"has images of 16 px, config.env.image_size is 32; .* --image_size=32"),
        ("state_dim", 7, r"has a state of 4 \(x, y, z, gripper\), config.env.state_dim is 7"),
        (
            "tasks",
            ("reach-red", "reach-bleu"),
            r"no demonstrations of 'reach-bleu'; nearest is 'reach-blue', it has reach-red",
        ),
    ],
)
def test_a_data_set_for_another_configuration_is_refused(dataset, config, key, value, message):
    dataset.check(config)
    config.env[key] = value
    with pytest.raises(ValueError, match=message):
        dataset.check(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda low: low.pop("last"), "last is not that of the episodes in metadata.json"),
        (lambda low: low.update(episode=low["episode"][::-1]), "episode is not that of the episodes in metadata.json"),
        (lambda low: low.update(state=low["state"][:-1]), "24 rows, but 23 state; build the data set again"),
    ],
)
def test_rows_that_are_not_those_of_the_episodes_are_refused(change, message, dataset_path, tmp_path):
    dataset = DataSet(shutil.copytree(dataset_path, tmp_path / "set"), CAMERAS)
    path = dataset.folder / "low_dim-val.npz"
    with np.load(path) as arrays:
        low = dict(arrays)
    change(low)
    np.savez(path, **low)
    with pytest.raises(ValueError, match=message):
        dataset.split("val")


def test_metadata_that_say_too_little_are_named(dataset_path, tmp_path):
    path = DataSet(shutil.copytree(dataset_path, tmp_path / "set"), CAMERAS).folder / "metadata.json"
    for content, message in [
        ("{}", "metadata.json: cameras is missing"),
        ('{"cameras": 3}', "cameras is 3; expected a list"),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            DataSet(tmp_path / "set", CAMERAS)
