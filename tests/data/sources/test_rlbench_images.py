"""Pictures that carry numbers: depth to the millimetre, every object handle, and no damage unseen."""

import cv2
import numpy as np
import pytest

from drifting_vla_jax.core.episode import encode_png
from drifting_vla_jax.data.sources.rlbench import images as rlbench_images
from drifting_vla_jax.data.sources.rlbench.images import (
    ImageError,
    check_png,
    decode_depth,
    decode_mask,
    decode_rgb,
    resized,
)


def picture(height=6, width=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_depth_is_right_to_a_tenth_of_a_millimetre():
    """near 0.01 m, far 4.5 m, in 24 bits: a step of 0.27 micrometres; float32 keeps half a micrometre at 4 m."""
    metres = np.array([[0.01, 0.5, 1.234567], [2.0, 3.999, 4.5]])
    steps = np.round((metres - 0.01) / (4.5 - 0.01) * (2**24 - 1)).astype(np.int64)
    image = np.stack([steps >> 16, (steps >> 8) & 255, steps & 255], axis=-1).astype(np.uint8)
    np.testing.assert_allclose(decode_depth(encode_png(image), 0.01, 4.5), metres, atol=1e-6)


def test_masks_keep_every_handle():
    """PerAct's fork makes 172, 208 and 209 of these handles; 300 and 70000 need the second and third colour."""
    handles = np.array([[0, 31, 45, 47], [48, 84, 300, 70_000]])
    image = np.stack([handles & 255, (handles >> 8) & 255, handles >> 16], axis=-1).astype(np.uint8)
    assert decode_mask(encode_png(image)).tolist() == handles.tolist()


def test_pictures_come_back_and_say_their_size():
    image = picture(4, 7)
    data = encode_png(image)
    np.testing.assert_array_equal(decode_rgb(data), image)
    assert check_png(data) == (4, 7)


def test_every_flipped_bit_cut_and_addition_is_seen():
    data = encode_png(picture())
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(ImageError):
            check_png(bytes(damaged))
        with pytest.raises(ImageError):
            check_png(data[:at])
    with pytest.raises(ImageError, match="something after its end"):
        check_png(data + b"\0")


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)]
)
def test_other_kinds_are_refused(image):
    with pytest.raises(ImageError, match=r"bit depth \d+ and colour type \d; expected 8-bit RGB"):
        check_png(cv2.imencode(".png", image)[1].tobytes())
    with pytest.raises(ImageError, match="that are no PNG"):
        check_png(cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes())


def test_resizing_averages_and_leaves_the_right_size_alone():
    data = encode_png(picture())
    assert resized(data, 6) is data
    small = decode_rgb(resized(data, 3))
    blocks = picture().reshape(3, 2, 3, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small, blocks, atol=1)
    assert decode_rgb(resized(data, 12)).shape == (12, 12, 3)
    with pytest.raises(ImageError, match="7 x 4; expected a square one"):
        rlbench_images.resized(encode_png(picture(4, 7)), 4)
