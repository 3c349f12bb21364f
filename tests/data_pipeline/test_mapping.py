"""Mappings: what they may say, and what becomes of the numbers."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.data import mapping, presets
from drifting_vla_jax.data.convert import held_out
from drifting_vla_jax.data.fields import Field, MappingError, Reading
from drifting_vla_jax.data.recordings import rows_at, square

QUARTER = np.array([0, 0, np.pi / 2])  # about z
STATE = {"position": "s[0:3]", "rotation": {"field": "s[3:6]", "form": "axis_angle"}, "gripper": "s[6]"}
WIDTHS = {"s": 7, "a": 7, "q": 4, "joints": 2}


def reading(action, state=STATE, names=None) -> Reading:
    return Reading(written({"state": state, "action": action}), WIDTHS, names or {})


def written(spec: dict) -> dict:
    return mapping.load("test", {"test": spec})


def arrays(rotation=QUARTER, delta=(1, 0, 0), turn=QUARTER):
    """Three rows: a hand at (1, 2, 3), turned; an action that moves and turns it."""
    state = np.tile([1, 2, 3, *rotation, 0.5], (3, 1))
    return {"s": state + 0.1 * np.arange(3)[:, None] * ([1] * 3 + [0] * 4), "a": np.tile([*delta, *turn, -1], (3, 1)),
            "q": np.tile([1.0, 0, 0, 0], (3, 1)), "joints": np.arange(6.0).reshape(3, 2)}  # fmt: skip


DELTA = {"kind": "delta", "position": {"field": "a[0:3]", "scale": 0.05}, "gripper": {"field": "a[6]", "open": -1, "closed": 1},
         "rotation": {"field": "a[3:6]", "form": "axis_angle", "scale": 0.5}}  # fmt: skip


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
    made = Reading(written(spec), {"p": 3, "g": 1, "r": len(values)}, {})
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
