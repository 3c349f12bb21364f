"""LeRobot's own library, where it is installed: what it writes is read here, and what is written here it opens.

It asks for other versions of torch, huggingface_hub and av than stand in constraints.txt, so CI's environment has it not.
"""

import importlib

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data import export
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from tests.small import CAMERAS, episode

SIZE, FPS, LENGTHS = 64, 10, (6, 9, 4)
FEATURES = {
    "observation.images.top": {"dtype": "video", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]},
    "observation.state": {"dtype": "float32", "shape": (7,), "names": ["x", "y", "z", "rx", "ry", "rz", "gripper"]},
    "action": {"dtype": "float32", "shape": (7,), "names": ["x", "y", "z", "rx", "ry", "rz", "gripper"]},
}


@pytest.fixture(scope="module")
def library():
    for name in ("lerobot", "ledataset"):  # the second is PyPI's lerobot-dataset, its part that reads and writes
        try:
            return importlib.import_module(f"{name}.datasets.lerobot_dataset")
        except ImportError:
            continue
    pytest.skip(
        "neither lerobot nor lerobot-dataset is installed: they ask for other versions of torch and av than ours"
    )


def picture(number, row):
    y, x = np.mgrid[:SIZE, :SIZE]
    phase = 0.7 * row + 2 * number
    return np.stack(
        [127 + 120 * np.sin(0.06 * x + phase), 127 + 120 * np.cos(0.05 * y - phase), 1.0 * (x + y)], -1
    ).astype(np.uint8)


def as_picture(tensor) -> np.ndarray:
    """uint8 [height, width, 3] of the library's float [3, height, width]."""
    return (tensor.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)


def psnr(a, b) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def test_what_the_library_writes_is_read(library, tmp_path):
    root = tmp_path / "set"
    theirs = library.LeRobotDataset.create("local/arm", fps=FPS, features=FEATURES, root=root, use_videos=True)
    rng = np.random.default_rng(0)
    rows = []
    for number, length in enumerate(LENGTHS):
        for row in range(length):
            state, action = rng.uniform(-1, 1, (2, 7)).astype(np.float32)
            rows.append((state, action))
            theirs.add_frame({"observation.images.top": picture(number, row), "observation.state": state, "action": action,
                              "task": ("Pick it", "Drop it")[number % 2]})  # fmt: skip
        theirs.save_episode()
    theirs.finalize()
    settings = RecordedSettings(
        str(root), lerobot_source.read_mapping("ee_axis_angle"), (), 0, (), 0, 0.0, 0.0, "fail", 1
    )
    done = convert.convert(settings, lerobot_source.open_files(settings), tmp_path / "w")
    theirs = library.LeRobotDataset("local/arm", root=root, video_backend="pyav")
    at = 0
    for path in done.splits["train"]:
        ours = Episode.load(path)
        for step in range(len(ours)):
            item = theirs[at]
            np.testing.assert_array_equal(ours.state[step, :3], rows[at][0][:3])
            np.testing.assert_array_equal(ours.actions[step, :3], rows[at][1][:3])
            assert ours.instructions == (item["task"],)
            assert psnr(decode_image(ours.images["top"][step]), as_picture(item["observation.images.top"])) >= 40
            at += 1
    assert at == len(theirs) == sum(LENGTHS)


def test_what_is_written_here_the_library_opens(library, dataset_path, tmp_path):
    export.export(dataset_path, tmp_path / "set", 10)
    theirs = library.LeRobotDataset("local/ours", root=tmp_path / "set", video_backend="pyav")
    assert len(theirs) == 96 and theirs.num_episodes == 8 and theirs.fps == 20
    split = DataSet(dataset_path, CAMERAS).split("train")
    for row in (0, 5, 11, 12, 71):
        item = theirs[row]
        np.testing.assert_array_equal(item["observation.state"].numpy(), split.state[row])
        np.testing.assert_array_equal(item["action"].numpy(), split.actions[row])
        assert item["task"] == episode(row // 12).instructions[0] and item["frame_index"] == row % 12
        for camera, image in zip(CAMERAS, split.images(row)):
            shown = as_picture(item[f"observation.images.{camera}"])
            assert np.unravel_index(shown.sum(-1).argmax(), shown.shape[:2]) == np.unravel_index(
                image.sum(-1).argmax(), shown.shape[:2]
            )
    assert set(theirs.meta.stats["action"]) >= {"min", "max", "mean", "std", "count"}
