"""Mappings: what they may say, and what becomes of the numbers."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.data.sources.recorded import mapping, presets
from drifting_vla_jax.data.sources.recorded.base import rows_at, square
from drifting_vla_jax.data.sources.recorded.convert import held_out
from drifting_vla_jax.data.sources.recorded.extract import FieldExtractor
from drifting_vla_jax.data.sources.recorded.fields import Field, MappingError

QUARTER = np.array([0, 0, np.pi / 2])  # about z
STATE = {"position": "s[0:3]", "rotation": {"field": "s[3:6]", "form": "axis_angle"}, "gripper": "s[6]"}
WIDTHS = {"s": 7, "a": 7, "q": 4, "joints": 2}


def reading(action, state=STATE, names=None) -> FieldExtractor:
    return FieldExtractor(written({"state": state, "action": action}), WIDTHS, names or {})


def written(spec: dict) -> dict:
    return mapping.load("test", {"test": spec})


def arrays(rotation=QUARTER, delta=(1, 0, 0), turn=QUARTER):
    """Three rows: a hand at (1, 2, 3), turned; an action that moves and turns it."""
    state = np.tile([1, 2, 3, *rotation, 0.5], (3, 1))
    return {"s": state + 0.1 * np.arange(3)[:, None] * ([1] * 3 + [0] * 4), "a": np.tile([*delta, *turn, -1], (3, 1)),
            "q": np.tile([1.0, 0, 0, 0], (3, 1)), "joints": np.arange(6.0).reshape(3, 2)}  # fmt: skip


DELTA = {"kind": "delta", "position": {"field": "a[0:3]", "scale": 0.05}, "gripper": {"field": "a[6]", "open": -1, "closed": 1},
         "rotation": {"field": "a[3:6]", "form": "axis_angle", "scale": 0.5}}  # fmt: skip
DELTA_HAND = {key: value for key, value in DELTA.items() if key != "kind"}


def test_deltas_are_added_in_the_base_s_frame():
    tilt = np.array([np.pi / 2, 0, 0])
    targets = reading(DELTA).targets(arrays(turn=tilt))
    np.testing.assert_allclose(targets[0, :3], [1.05, 2, 3])
    np.testing.assert_allclose(targets[2, :3], [1.25, 2.2, 3.2])
    want = (Rotation.from_rotvec(tilt / 2) * Rotation.from_rotvec(QUARTER)).as_quat(canonical=True)
    np.testing.assert_allclose(targets[:, 3:7], np.tile(want, (3, 1)), atol=1e-6)
    assert targets.dtype == np.float32 and (targets[:, 7] == 1).all()


def test_deltas_are_added_in_the_hand_s_frame():
    tilt = np.array([np.pi / 2, 0, 0])
    targets = reading(DELTA | {"frame": "hand"}).targets(arrays(turn=tilt))
    np.testing.assert_allclose(targets[0, :3], [1, 2.05, 3], atol=1e-6)  # its x axis points along y
    want = (Rotation.from_rotvec(QUARTER) * Rotation.from_rotvec(tilt / 2)).as_quat(canonical=True)
    np.testing.assert_allclose(targets[0, 3:7], want, atol=1e-6)


def test_what_was_achieved_is_the_next_row_and_the_last_has_none():
    made = reading({"kind": "achieved"})
    targets = made.targets(arrays())
    assert len(targets) == 2
    np.testing.assert_allclose(targets[:, 0], [1.1, 1.2], rtol=1e-6)
    np.testing.assert_allclose(targets[:, 3:], np.tile([0, 0, 0.5**0.5, 0.5**0.5, 0.5], (2, 1)), atol=1e-6)
    commanded = reading({"kind": "achieved", "gripper": {"field": "a[6]", "open": -1, "closed": 1}}).targets(arrays())
    assert (commanded[:, 7] == 1).all()


@pytest.mark.parametrize("form, values", [
    ("euler_xyz", [0.1, 0.2, 0.3]), ("euler_ZYX", [0.1, 0.2, 0.3]), ("axis_angle", [0.1, 0.2, 0.3]),
    ("quaternion_xyzw", [0.5, -0.5, 0.5, 0.5]), ("quaternion_wxyz", [0.5, 0.5, -0.5, 0.5]),
    ("rotation_6d", [0, 1, 0, 0, 0, 1]), ("matrix", [0, 0, 1, 1, 0, 0, 0, 1, 0]),
])  # fmt: skip
def test_rotations_in_every_form(form, values):
    want = {
        "euler_xyz": Rotation.from_rotvec([0, 0, 0.3])
        * Rotation.from_rotvec([0, 0.2, 0])
        * Rotation.from_rotvec([0.1, 0, 0]),
        "euler_ZYX": Rotation.from_rotvec([0, 0, 0.1])
        * Rotation.from_rotvec([0, 0.2, 0])
        * Rotation.from_rotvec([0.3, 0, 0]),
        "axis_angle": Rotation.from_rotvec([0.1, 0.2, 0.3]),
    }.get(form, Rotation.from_quat([0.5, -0.5, 0.5, 0.5] if "quaternion" in form else [0.5, 0.5, 0.5, 0.5]))
    spec = {"state": {"position": "p"}, "action": {"kind": "absolute", "position": "p", "gripper": "g",
            "rotation": {"field": "r", "form": form}}}  # fmt: skip
    made = FieldExtractor(written(spec), {"p": 3, "g": 1, "r": len(values)}, {})
    targets = made.targets({"p": np.zeros((1, 3)), "g": np.ones((1, 1)), "r": np.array([values], float)})
    np.testing.assert_allclose(targets[0, 3:7], want.as_quat(canonical=True), atol=1e-6)


def test_a_relative_gripper_holds_what_it_was_last_told():
    spec = {"kind": "absolute", "position": "a[0:3]", "rotation": {"field": "a[3:6]", "form": "euler_xyz"},
            "gripper": {"field": "a[6]", "open": -1, "closed": 1, "relative": True}}  # fmt: skip
    made = reading(spec)

    def told(*words):
        return made.targets(
            {"s": np.zeros((len(words), 7)), "a": np.pad(np.array(words, float)[:, None], ((0, 0), (6, 0)))}
        )[:, 7]

    np.testing.assert_array_equal(told(0, 0, 1, 0, -1, 0.05), [1, 1, 0, 0, 1, 1])  # open until it is closed
    np.testing.assert_array_equal(told(0, -1, 0), [0, 1, 1])
    np.testing.assert_array_equal(told(0, 0), [1, 1])


def test_the_state_is_what_the_mapping_names():
    made = reading(DELTA, STATE | {"more": ["joints"]}, {"joints": ["j1", "j2"]})
    state = made.state(arrays())
    assert made.state_names == ("x", "y", "z", "x_axis_x", "x_axis_y", "x_axis_z", "y_axis_x", "y_axis_y", "y_axis_z",
                                "gripper", "j1", "j2")  # fmt: skip
    np.testing.assert_allclose(state[1], [1.1, 2.1, 3.1, 0, 1, 0, -1, 0, 0, 0.5, 2, 3], atol=1e-6)
    bare = reading(
        {
            "kind": "absolute",
            "position": "a[0:3]",
            "rotation": {"field": "a[3:6]", "form": "euler_xyz"},
            "gripper": "a[6]",
        },
        {"position": "s[0:3]", "more": ["s[6:]"]},
    )
    assert bare.state_names == ("x", "y", "z", "s[6]")


def test_a_quaternion_that_is_not_unit_is_refused():
    made = reading(
        {
            "kind": "absolute",
            "position": "a[0:3]",
            "rotation": {"field": "q", "form": "quaternion_wxyz"},
            "gripper": "a[6]",
        }
    )
    with pytest.raises(ValueError, match=r"q of row 1 has length 2\.0000; expected a unit quaternion"):
        made.targets(arrays() | {"q": np.array([[1.0, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]])})


ARMS = {
    "j": np.array([[1.0, 2, 0, 3, 4, 80], [5, 6, 100, 7, 8, 90]]),
    "d": np.ones((2, 6)),
}  # twice 2 joints, a gripper
OPEN = [{"field": "j[2]", "open": 100}, {"field": "j[5]", "open": 100}]


def joints(action: dict, names=None, **state) -> FieldExtractor:
    spec = {"layout": "joints", "state": {"joints": ["j[0:2]", "j[3:5]"]} | state, "action": action}
    return FieldExtractor(written(spec), {"j": 6, "d": 6}, {"j": names} if names else {})


def test_joints_are_put_before_grippers():
    scaled = {"field": "d[3:5]", "scale": 0.5}
    made = joints({"kind": "absolute", "joints": ["d[0:2]", scaled], "grippers": OPEN}, grippers=OPEN, more=["d[5]"])
    assert made.layout == ActionLayout("joints", ("d[0]", "d[1]", "d[3]", "d[4]"), ("j[2]", "j[5]"))
    assert made.state_names == (*made.layout.names, "d[5]") and set(made.fields) == {"j", "d"}
    np.testing.assert_allclose(made.state(ARMS), [[1, 2, 3, 4, 0, 0.8, 1], [5, 6, 7, 8, 1, 0.9, 1]], atol=1e-6)
    np.testing.assert_allclose(made.targets(ARMS), [[1, 1, 0.5, 0.5, 0, 0.8], [1, 1, 0.5, 0.5, 1, 0.9]], atol=1e-6)
    assert made.targets(ARMS).dtype == made.state(ARMS).dtype == np.float32


def test_joints_as_deltas_and_as_achieved():
    delta = joints({"kind": "delta", "joints": ["d[0:4]"]}, grippers=OPEN)
    np.testing.assert_allclose(
        delta.targets(ARMS), [[2, 3, 4, 5, 1, 0.9], [6, 7, 8, 9, 1, 0.9]], atol=1e-6
    )  # the next row's
    achieved = joints({"kind": "achieved"}, names=["a", "b", "grip", "c", "d", "other grip"])
    assert achieved.layout == ActionLayout("joints", ("a", "b", "c", "d")) and achieved.state_names == tuple("abcd")
    np.testing.assert_allclose(achieved.targets(ARMS), [[5, 6, 7, 8]])
    commanded = joints({"kind": "achieved", "grippers": ["d[5]"]})
    np.testing.assert_allclose(commanded.targets(ARMS), [[5, 6, 7, 8, 1]])


def test_names_may_be_given():
    action = {"kind": "absolute", "joints": [{"field": "j[0:2]", "names": ["lift", "tilt"]}, "j[3:5]"]}
    assert joints(action).layout.joints == ("lift", "tilt", "j[3]", "j[4]")


@pytest.mark.parametrize(
    ("action", "names", "message"),
    [
        (["j[0:2]"], None, "state.joints are 4 numbers, action.joints are 2; expected the same in both"),
        (
            ["j[3:5]", "j[0:2]"],
            "abxcdy",
            "state.joints are a, b, c, d, action.joints are c, d, a, b; expected one order",
        ),
        (["j[0:2]", "j[0:2]"], None, "name j.0., j.1. more than once; the data set calls them so: give them .names"),
        ([{"field": "j[0:4]", "names": ["a"]}], None, r"action.joints gives 1 names to j\[0:4\]: 4 numbers"),
        (["j[3:8]"], None, "j has 6 numbers; entries 3 to 8 are asked for"),
    ],
)
def test_joints_that_do_not_fit_are_refused(action, names, message):
    with pytest.raises(MappingError, match=message):
        joints({"kind": "absolute", "joints": action}, names=list(names or []))


def test_what_is_no_gripper_is_refused():
    action = {"kind": "absolute", "joints": ["j[0:4]"], "grippers": ["j[4]"]}
    with pytest.raises(
        MappingError, match=r"action.grippers has j\[4\], which the data set calls d; its grippers are grip"
    ):
        joints(action, names=["a", "b", "grip", "c", "d", "e"])
    with pytest.raises(MappingError, match=r"action.grippers has j\[4:\]: 2 numbers; expected 1 of each"):
        joints(action | {"grippers": ["j[4:]"]})


def test_two_hands_are_each_read_as_one():
    right = STATE | {"position": "q[0:3]"}
    spec = {"layout": "bimanual", "state": {"left": STATE, "right": right, "more": ["joints"]},
            "action": {"kind": "delta", "left": DELTA_HAND, "right": DELTA_HAND}}  # fmt: skip
    both, left = FieldExtractor(written(spec), WIDTHS, {}), reading(DELTA)
    values = arrays()
    targets, state = both.targets(values), both.state(values)
    assert both.layout == ActionLayout("bimanual") and targets.shape == (3, 16) and state.shape == (3, 22)
    np.testing.assert_array_equal(targets[:, :8], left.targets(values))
    np.testing.assert_allclose(targets[:, 8:11], [[1.05, 0, 0]] * 3, atol=1e-6)
    assert both.state_names[:7] == ("left x", "left y", "left z", "right x", "right y", "right z", "left x_axis_x")
    assert both.state_names[12:14] == ("left gripper", "right x_axis_x") and both.state_names[19] == "right gripper"
    np.testing.assert_allclose(state[0, :6], [1, 2, 3, 1, 0, 0])
    np.testing.assert_array_equal(state[:, 6:13], left.state(values)[:, 3:])
    achieved = FieldExtractor(written(spec | {"action": {"kind": "achieved"}}), WIDTHS, {})
    np.testing.assert_allclose(achieved.targets(values)[:, [0, 8]], [[1.1, 1], [1.2, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"layout": "legs"}, "layout is 'legs'; expected one of end_effector, bimanual, joints"),
        ({"action": {"kind": "velocity"}}, "action.kind is 'velocity'"),
        ({"state": {"joints": None}}, "state has no joints; a data set needs where they are"),
        ({"action": {"joints": None}}, "absolute targets need action.joints, and they are not there"),
        ({"action": {"frame": "hand"}}, "action has no key 'frame'"),
        (
            {"state": {"position": "observation.state[0:3]"}},
            "state.position is for the layout end_effector; this is joints",
        ),
        ({"state": {"joints": 3}}, "state.joints is 3; expected a list of fields"),
        ({"action": {"joints": [{"fields": "action"}]}}, "joints has no key 'fields'; did you mean 'field'?"),
        (
            {"action": {"joints": [{"field": "action", "scale": "big"}]}},
            "action.joints.scale is 'big'; expected a number",
        ),
        ({"action": {"joints": [{"field": "action", "names": "a"}]}}, "action.joints.names is 'a'; expected a list"),
        ({"action": {"grippers": [{"field": "action[6]", "open": 0}]}}, "action.grippers: open and closed are both 0"),
        (
            {"layout": "bimanual", "state": None, "action": {"joints": None, "grippers": None}},
            "needs state.left and action",
        ),
    ],
)
def test_a_mapping_of_joints_that_means_nothing_is_refused(spec, message, tmp_path):
    file = tmp_path / "arm.json"
    file.write_text(json.dumps({"preset": "aloha"} | spec))
    with pytest.raises(MappingError, match=message):
        mapping.load(str(file), presets.LEROBOT)


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"preset": "ee_eular"}, "unknown preset 'ee_eular'; expected one of ee_euler"),
        ({"actions": {}}, "the mapping has no key 'actions'; did you mean 'action'?"),
        ({"action": {"rotation": {"from": "x"}}}, "rotation has no key 'from'; did you mean 'form'?"),
        ({"action": {"kind": "velocity"}}, "action.kind is 'velocity'; expected one of absolute, delta, achieved"),
        ({"action": {"rotation": {"form": "euler"}}}, r"action.rotation.form is 'euler'; expected euler_xyz"),
        ({"action": {"rotation": None}}, "absolute targets need action.rotation, and it is not there"),
        ({"action": {"kind": "delta"}, "state": {"rotation": None}}, "delta targets need state.rotation"),
        ({"action": {"gripper": None}, "state": {"gripper": None}}, "neither action.gripper nor state.gripper"),
        ({"action": {"gripper": {"open": 0}}}, "action.gripper: open and closed are both 0"),
        ({"action": {"position": {"scale": "big"}}}, "action.position.scale is 'big'; expected a number"),
        ({"action": {"position": "action[0:"}}, r"'action\[0:' names no field"),
        ({"fit": "squeeze"}, "fit is 'squeeze'; expected one of crop, pad"),
        ({"cameras": []}, r"cameras is \[\]; expected our names and their fields"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(spec, message, tmp_path):
    file = tmp_path / "arm.json"
    file.write_text(json.dumps({"preset": "ee_euler"} | spec))
    with pytest.raises(MappingError, match=message):
        mapping.load(str(file), presets.LEROBOT)


def test_what_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(MappingError, match="--mapping=ee_eulr is no preset and no JSON file; did you mean 'ee_euler'?"):
        mapping.load("ee_eulr", presets.LEROBOT)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(MappingError, match="a.json is no JSON"):
        mapping.load(str(tmp_path / "a.json"), presets.LEROBOT)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(MappingError, match="holds a list; expected an object"):
        mapping.load(str(tmp_path / "a.json"), presets.LEROBOT)


@pytest.mark.parametrize("known", [presets.LEROBOT, presets.RLDS], ids=["lerobot", "rlds"])
def test_every_preset_is_a_mapping_and_stays_as_it_is(known):
    before = json.dumps(known)
    for name in known:
        assert mapping.load(name, known)["action"]["kind"] in mapping.KINDS
    assert json.dumps(known) == before


def test_entries_of_a_field():
    assert Field.parse("a/b.c") == Field("a/b.c") and Field.parse("a[2]") == Field("a", 2, 3)
    assert Field.parse("a[2:]") == Field("a", 2, None) and Field.parse("a[:2]".replace("[:", "[0:")) == Field("a", 0, 2)


def test_rows_of_a_lower_rate():
    rows, ahead = rows_at(10, 15.0, 5.0)
    assert rows.tolist() == [0, 3, 6, 9] and ahead.tolist() == [2, 5, 8, 9]
    rows, ahead = rows_at(4, 20.0, 0.0)
    assert rows.tolist() == ahead.tolist() == [0, 1, 2, 3]


def test_every_nth_episode_is_held_out_and_at_least_one():
    assert [i for i, held in enumerate(held_out(20, 0.1)) if held] == [9, 19]
    assert held_out(3, 0.1) == [False, False, True] and held_out(1, 0.1) == [False] and not any(held_out(5, 0.0))


def test_a_picture_is_cut_or_padded_to_a_square():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200
    assert (square(image, 0, "crop") == 200).all() and square(image, 0, "crop").shape == (4, 4, 3)
    padded = square(image, 0, "pad")
    assert padded.shape == (8, 8, 3) and padded[:2].max() == 0 and padded[3, 4, 0] == 200
    assert square(image, 2, "crop").shape == (2, 2, 3) and square(image, 16, "pad").shape == (16, 16, 3)
