"""An episode on disk is whole or absent, and says what is wrong with itself."""

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode, decode_image, encode_png
from tests.small import episode


def test_save_and_load(tmp_path):
    written = episode(1)
    written.save(tmp_path / "1.npz")
    read = Episode.load(tmp_path / "1.npz")
    for name in ("task", "variation", "seed", "instructions"):
        assert getattr(read, name) == getattr(written, name)
    assert read.images == written.images
    np.testing.assert_array_equal(read.state, written.state)
    np.testing.assert_array_equal(read.actions, written.actions)
    assert [p.name for p in tmp_path.iterdir()] == ["1.npz"]


def test_a_torn_write_leaves_no_episode(tmp_path, monkeypatch):
    """The disk fills up in the middle of the file."""

    def half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        episode(0).save(tmp_path / "0.npz")
    assert not list(tmp_path.glob("*.npz"))


def test_a_torn_write_leaves_the_episode_that_was_there(tmp_path, monkeypatch):
    episode(0).save(tmp_path / "0.npz")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        episode(1).save(tmp_path / "0.npz")
    assert Episode.load(tmp_path / "0.npz").seed == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((12, 7), np.float32)}, r"actions of reach-red have shape \(12, 7\); expected \(12, 8\)"),
        ({"images": {"front": [b""] * 11}}, "camera front of reach-red has 11 frames; expected 12"),
        ({"instructions": ()}, "an episode of reach-red has no instruction"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(episode(0), **change)


def test_images_come_back_exactly_in_rgb():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)


def test_a_damaged_image_is_an_error_not_a_black_picture():
    with pytest.raises(ValueError, match="12 bytes cannot be decoded; rebuild the data set"):
        decode_image(encode_png(np.zeros((4, 4, 3), np.uint8))[:12])
