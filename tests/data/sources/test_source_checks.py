"""What is wrong with episodes, sets and pictures, one check at a time."""

import dataclasses
import re

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.episode import encode_png
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.episode_checks import Numbers, SetChecks, SourceError, Summary
from drifting_vla_jax.data.sources.recorded.base import choose_cameras
from drifting_vla_jax.data.sources.rlds import reader as rlds_files
from tests import lerobot_fixture as fixture

TOP, WRIST = fixture.SIZES
JOINTS = ActionLayout("joints", ("a", "b"), ("g",))


def good(rows=4) -> Numbers:
    targets = np.tile(np.float32([0.1, 0.2, 0.3, 0, 0, 0, 1, 0.5]), (rows, 1))
    targets[:, 0] += np.arange(rows) / 100
    return Numbers(("Go on",), targets[:, :3].copy(), targets, END_EFFECTOR)


def spoiled(entry, value, part="targets", row=1) -> Numbers:
    numbers = good()
    getattr(numbers, part)[row, entry] = value
    return numbers


def test_an_episode_that_is_right():
    assert episode_checks.fault(good()) is None and episode_checks.fault(good(1)) is None
    angles = np.float32([[400, -3, 1], [400, -3, 0]])
    assert (
        episode_checks.fault(Numbers(("回して",), angles[:, :2], angles, JOINTS)) is None
    )  # joints have their own unit


@pytest.mark.parametrize("numbers, message", [
    (dataclasses.replace(good(), instructions=("Go", " ")), "its instruction is empty: ' '"),
    (dataclasses.replace(good(), instructions=()), "it has no instruction"),
    (dataclasses.replace(good(), instructions=("\u200b...",)), "its instruction has no words"),
    (dataclasses.replace(good(), instructions=("\u200b",)), "its instruction is empty"),
    (spoiled(2, np.nan), "entry 2 of the target of row 1 is not finite"),
    (spoiled(0, np.inf, "state", 3), "entry 0 of the state of row 3 is not finite"),
    (spoiled(6, 0.9), "the quaternion of row 1 has length 0.9000; expected 1"),
    (spoiled(7, 1.5), "the gripper of row 1 is 1.5; expected 0 closed to 1 open"),
    (spoiled(1, 350.0), "a position of row 1 is 350 m from the origin; are these millimetres?"),
    (spoiled(1, -3e30, "state"), "a position of row 1 is 3e[+]30 m"),
    (dataclasses.replace(good(), targets=good().targets[:1].repeat(4, 0), state=np.ones((4, 3))), "neither state nor targets"),
    (Numbers(("Go",), np.ones((2, 3)), np.float32([[1, 2, 3], [1, 2, 3]]), JOINTS), "the gripper of row 0 is 3"),
])  # fmt: skip
def test_what_is_wrong_with_an_episode(numbers, message):
    assert re.search(message, episode_checks.fault(numbers) or "")


def test_a_set_in_which_nothing_moves_or_that_is_there_twice():
    checks, still = SetChecks(), good()
    still.targets[:] = still.targets[0]
    for number in range(2):
        checks.add(number, Summary.of(still))
    with pytest.raises(SourceError, match="nothing moves: no number of an action changes in 2 episodes. Is this"):
        checks.finish()
    checks = SetChecks()
    assert checks.add("a", Summary.of(good())) is None and checks.add("b", Summary.of(good(5))) is None
    assert checks.add("c", Summary.of(good())) == "a"
    assert checks.add("d", Summary.of(dataclasses.replace(good(), instructions=("Stop",)))) is None
    checks.finish()
    checks = SetChecks()
    checks.add("deltas of zero", Summary.of(good(), np.zeros((4, 6))))
    with pytest.raises(SourceError, match="nothing moves"):
        checks.finish()
    SetChecks().finish()


def test_statistics_of_a_still_set_are_refused_and_of_one_joint_are_not():
    rows, last, state = np.arange(6), np.full(6, 5), np.zeros((6, 2))
    still = np.tile(np.float32([1, 2, 1]), (6, 1))
    for frame in ("relative", "absolute"):
        with pytest.raises(ValueError, match="nothing moves: no entry of an action changes in the 6 steps"):
            ActionNormalizer.fit(state, still, rows, last, 2, frame, JOINTS)
    still[:, 1] += np.arange(6)
    assert ActionNormalizer.fit(state, still, rows, last, 2, "absolute", JOINTS).active.any(0).tolist() == [
        False,
        True,
        False,
    ]
    only_grips = np.tile(np.float32([1, 2, 1]), (6, 1)) * [[1, 1, k % 2] for k in range(6)]
    assert ActionNormalizer.fit(state, only_grips, rows, last, 2, "absolute", JOINTS).active.any(0).tolist() == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("about, found", [
    (("observation.images.top", "uint8", 3, False), None), (("a/rgb", "uint8", 4, False), None),
    (("a.top", "uint8", None, False), None), (("a.top", "uint8", 3, True), ("a depth map, as the data set says", True)),
    (("a/depth", "float32", 1, False), ("pictures of float32", True)),
    (("a/x", "uint16", 1, False), ("pictures of uint16", True)),
    (("a.gray", "uint8", 1, False), ("pictures of 1 channel", False)),
    (("a.flow", "uint8", 2, False), ("pictures of 2 channels", True)),
    (("a.cam_depth", "uint8", 3, False), ("no colors, by its name", False)),
    (("depth/cam_in_depth.front", "uint8", 3, False), None),
    (("a.segmentation", "uint8", 3, False), ("no colors, by its name", False)),
])  # fmt: skip
def test_fields_that_hold_no_colors(about, found):
    assert episode_checks.odd_field(*about) == found


def test_views_of_no_colors_are_left_out_or_refused():
    odd = {"i.depth": ("pictures of uint16", True), "i.gray": ("pictures of 1 channel", False)}
    found = ["i.top", *odd]
    assert choose_cameras({}, found, (), odd) == {"top": "i.top"}
    assert choose_cameras({}, found, ("gray", "top"), odd) == {"gray": "i.gray", "top": "i.top"}
    assert choose_cameras({"cameras": {"a": "i.gray"}}, found, (), odd) == {"a": "i.gray"}
    for mapping, wanted in (({"cameras": {"d": "i.depth"}}, ()), ({}, ("depth",))):
        with pytest.raises(ValueError, match="i.depth holds pictures of uint16; expected colors of 8 bits"):
            choose_cameras(mapping, found, wanted, odd)
    with pytest.raises(ValueError, match="no pictures of colors: gray .pictures of 1 channel"):
        choose_cameras({}, ["i.gray"], (), odd)


def png(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_files_of_pictures():
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(episode_checks.color_picture(encode_png(image)), image)
    alpha = png(np.dstack([image[..., ::-1], np.full((8, 8), 7, np.uint8)]))
    np.testing.assert_array_equal(episode_checks.color_picture(alpha), image)
    assert episode_checks.plain_png(encode_png(image)) and not episode_checks.plain_png(alpha)
    assert not episode_checks.plain_png(png(image[..., 0]))
    for depth in (
        png(np.full((8, 8), 900, np.uint16)),
        cv2.imencode(".tiff", np.ones((8, 8), np.float32))[1].tobytes(),
    ):
        with pytest.raises(episode_checks.ColorError, match="depth map"):
            episode_checks.color_picture(depth)


def test_pictures_that_show_nothing():
    bright, dark = np.full((4, 4, 3), 90, np.uint8), np.full((4, 4, 3), 2, np.uint8)
    assert episode_checks.picture_fault([]) is None
    assert episode_checks.picture_fault([{"a": [bright, bright + 1, bright]}] * 2) is None
    assert episode_checks.picture_fault([{"a": [bright] * 3}]) is None  # one episode may be of a still scene
    said = episode_checks.picture_fault([{"a": [bright, dark, bright], "b": [dark, dark]}])
    assert said == "view b: the 2 pictures that were looked at are black; name the other views (--cameras)"
    assert "of 2 episodes, are one and the same" in episode_checks.picture_fault([{"a": [bright] * 3}] * 2)


@pytest.mark.parametrize("hz", [0.0, -1.0, np.nan, np.inf, 1e6])
def test_rates_that_no_recording_has(hz):
    with pytest.raises(SourceError, match="rows per second; expected more than 0"):
        episode_checks.check_rate(hz)
    episode_checks.check_rate(30.0)


@pytest.mark.parametrize("feature, found", [
    (tfds.features.Image(shape=(8, 8, 1), dtype=np.float32, encoding_format="png"), ("pictures of float32", True)),
    (tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16, encoding_format="png"), ("pictures of uint16", True)),
    (tfds.features.Image(shape=(None, None, 1)), ("pictures of 1 channel", False)),
    (tfds.features.Image(shape=(8, 8, 4)), None), (tfds.features.Image(), None),
])  # fmt: skip
def test_pictures_of_rlds(feature, found):
    assert rlds_files._sorted({"observation": tfds.features.FeaturesDict({"cam": feature})}, "")[1] == {
        "observation/cam": found
    }
