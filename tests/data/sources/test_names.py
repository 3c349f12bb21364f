"""What a data set calls its numbers: read as such, silent, or refused."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.data.sources.recorded import mapping, names, presets
from drifting_vla_jax.data.sources.recorded.extract import FieldExtractor
from drifting_vla_jax.data.sources.recorded.fields import MappingError

FIELDS = ("observation.state", "action")
EULER = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]


def read(preset, called, action=None, **changes) -> FieldExtractor:
    """A preset of LeRobot's on a data set with these names; a number for so many without."""
    spec = mapping.load(preset, presets.LEROBOT | {preset: presets.LEROBOT[preset] | changes})
    both = dict(zip(FIELDS, (called, called if action is None else action)))
    widths = {field: said if isinstance(said, int) else len(said) for field, said in both.items()}
    return FieldExtractor(spec, widths, {field: said for field, said in both.items() if not isinstance(said, int)})


@pytest.mark.parametrize("preset, called", [
    ("ee_euler", EULER), ("ee_axis_angle", EULER),  # as libero's conversions call axis-angle vectors
    ("ee_euler", ["ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "ee.gripper_pos"]),
    ("ee_euler", [f"motor_{i}" for i in range(7)]), ("ee_euler", [f"x{i}" for i in range(7)]),
    ("ee_axis_angle", ["eef_pos_0", "eef_pos_1", "eef_pos_2", "rx", "ry", "rz", "jaw"]),
    ("ee_delta_euler", ["delta_x", "delta_y", "delta_z", "droll", "dpitch", "dyaw", "gripper_open"]),
    ("ee_quaternion", ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]),
    ("ee_quaternion", ["x", "y", "z", "x", "y", "z", "w", "gripper"]),
    ("ee_quaternion", ["x", "y", "z", "quat_0", "quat_1", "quat_2", "quat_3", "finger_joint1"]),
    ("so101", ["shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos"]),
    ("drifting_vla", ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]),
])  # fmt: skip
def test_names_that_agree_or_say_nothing(preset, called):
    state = presets.LEROBOT[preset]["state"] if preset != "ee_delta_euler" else None
    if state is None:  # a state is no change of anything
        read(preset, EULER, called)
    else:
        assert not read(preset, called).unread


WRONG = [
    ("ee_euler", ["x", "y", "z", "roll", "pitch", "yaw", "pad"], r"reads observation.state\[6\] as the gripper; .*'pad'"),
    ("ee_euler", ["y", "x", "z", *EULER[3:]], r"state\[0\] as x of the position; .* calls it 'y'"),
    ("ee_euler", [*EULER[:3], "yaw", "pitch", "roll", "gripper"], "as x of the rotation; .* 'yaw'"),
    ("ee_euler", [*EULER[:3], "rotvec_x", "rotvec_y", "rotvec_z", "gripper"], "'rotvec_x' .of an axis-angle vector"),
    ("ee_axis_angle", [*EULER[:3], "euler_x", "euler_y", "euler_z", "gripper"], "'euler_x'"),
    ("ee_euler", [*EULER[:3], "roll_deg", "pitch_deg", "yaw_deg", "gripper"], "as radians; give it a scale"),
    ("ee_euler", ["x_mm", "y_mm", "z_mm", *EULER[3:]], "as metres; give it a scale"),
    ("ee_euler", [*EULER[:6], "gripper_closedness"], "as open at 1, closed at 0; .*gripper_closedness"),
    ("ee_euler", ["delta_x", "delta_y", "delta_z", *EULER[3:]], "as a pose, not a change of it"),
    ("ee_euler", ["vel_x", "vel_y", "vel_z", *EULER[3:]], "'vel_x' .a change in time"),
    ("ee_euler", ["qw", "qx", "qy", "qz", "x", "y", "z"], "'qw' .quaternion"),
    ("ee_euler", [*EULER[:6], "terminate_episode"], "'terminate_episode'"),
    ("ee_quaternion", ["x", "y", "z", "qw", "qx", "qy", "qz", "gripper"], r"state\[3\] as x of the rotation; .*'qw'"),
    ("ee_quaternion", ["x", "y", "z", "w", "x", "y", "z", "gripper"], "'w'"),
    ("ee_quaternion", ["x", "y", "z", "roll", "pitch", "yaw", "pad", "gripper"], "'pitch'|'roll'|'pad'"),
    ("so100", ["x", "y", "z", "roll", "pitch", "gripper"], "joints, and those are a pose of the hand"),
    ("so100", ["shoulder_pan", "shoulder_lift", "elbow_flex", "pad", "wrist_roll", "gripper"], "'pad' .padding"),
    ("so100", ["gripper", "shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll"], "its grippers are gripper"),
    ("drifting_vla", ["y", "x", "z", "qx", "qy", "qz", "qw", "gripper"], "'y'"),
]  # fmt: skip


@pytest.mark.parametrize("preset, called, message", WRONG)
def test_names_that_contradict_the_mapping_are_refused(preset, called, message):
    with pytest.raises(MappingError, match=message) as error:
        read(preset, called)
    assert "\n" not in str(error.value)


def test_an_arm_is_one_arm():
    state, action = ([f"{arm}_{name}" for name in EULER] for arm in ("left", "right"))
    with pytest.raises(MappingError, match="one hand is read from numbers that the data set calls left and right"):
        read("ee_euler", state, action)
    hand = presets.LEROBOT["ee_euler"]
    action = {key: value for key, value in hand["action"].items() if key != "kind"}
    both = {"layout": "bimanual", "state": {"left": hand["state"], "right": hand["state"]},
            "action": {"kind": "absolute", "left": action, "right": action}}  # fmt: skip
    with pytest.raises(MappingError, match="the right hand is read from numbers that .* left and right"):
        FieldExtractor(
            mapping.load("b", {"b": copy.deepcopy(both)}), dict.fromkeys(FIELDS, 7), dict.fromkeys(FIELDS, state)
        )


def test_wrong_names_can_be_replaced():
    pad = [*EULER[:6], "pad"]
    state = presets.LEROBOT["ee_euler"]["state"]
    own = {"gripper": state["gripper"] | {"names": ["finger"]}}
    assert read("ee_euler", pad, EULER, state=state | own).fields == FIELDS
    with pytest.raises(MappingError, match="gives 2 names to .*: 1 numbers"):
        read("ee_euler", pad, EULER, state=state | {"gripper": state["gripper"] | {"names": ["a", "b"]}})


def test_numbers_that_are_left_are_said():
    padded = [*EULER[:6], "gripper", "pad", "gripper"]
    assert read("ee_euler", padded, EULER).unread == ["observation.state[7:9] (pad, gripper)"]
    assert read("libero", 8, 7).unread == ["observation.state[7]"]


@pytest.mark.parametrize("said, width, found", [
    (["state"], 8, None), (["a", "b"], 2, ["a", "b"]), ({"motors": ["a", "b"]}, 2, ["a", "b"]), ({"motors": ["m"]}, 7, None),
    ({"delta_x": 0, "gripper": 2, "delta_y": 1}, 3, ["delta_x", "delta_y", "gripper"]), ([], 0, None), (None, 3, None),
    ({"left": ["x"], "right": ["x"]}, 2, ["left_x", "right_x"]), ([["a"], ["b"]], 2, ["a", "b"]), ([1, 2], 2, None),
    ({"axes": {"pos": ["x", "y"]}}, 2, ["x", "y"]), ({"a": 1}, 1, None), ("xy", 2, None), (7, 7, None),
])  # fmt: skip
def test_one_name_for_many_numbers_is_no_name(said, width, found):
    assert names.flat(said, width) == found


@pytest.mark.parametrize("field, form, preset", [
    ("action/rotation_delta", None, "fractal"), ("observation/eef_quat", None, "fractal"),
    ("observation/joint_position[0:3]", None, "droid"), ("action/terminate_episode", "gripper", "fractal"),
    ("observation/gripper_closed", "gripper", "droid"), ("observation/pos_mm", None, "droid"),
])  # fmt: skip
def test_the_name_of_a_field_is_one_too(field, form, preset):
    """RLDS names fields alone."""
    spec = copy.deepcopy(presets.RLDS[preset])
    entry = {"gripper": {"field": field, "open": 1, "closed": 0}} if form else {"position": {"field": field}}
    spec["state"] = spec["state"] | entry
    widths = {}
    for part in ("state", "action"):
        for each in spec[part].values():
            if isinstance(each, dict | str) and each not in ("delta", "base", "absolute"):
                text = each if isinstance(each, str) else each["field"]
                widths[text.split("[")[0]] = 7
    widths |= {"action/world_vector": 3, "action/rotation_delta": 3, "action/gripper_closedness_action": 1, field: 3}
    widths |= {name: 1 for name in widths if "grip" in name or "termin" in name}
    with pytest.raises(MappingError, match="the data set calls it"):
        FieldExtractor(mapping.load("p", {"p": spec}), widths, {})


WORDS = st.sampled_from([*EULER, "pad", "qw", "qx", "qy", "qz", "w", "joint_1", "motor_2", "left_x", "x_mm", "gripper_closed", "",
                         "\x00", "ee.wx", "rot6d_0", "😀", "x" * 99])  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    preset=st.sampled_from(sorted(presets.LEROBOT)),
    said=st.recursive(
        WORDS | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=16,
    ),
    called=st.lists(WORDS, min_size=14, max_size=14),
)
def test_any_names_are_read_or_refused_in_one_line(preset, said, called):
    """And never is padding read as a gripper."""
    assert names.flat(said, 8) is None or len(names.flat(said, 8)) == 8
    try:
        made = read(preset, called)
    except ValueError as error:
        assert str(error).count("\n") == 0
        return
    grippers = [entry["gripper"]["field"] for entry in (presets.LEROBOT[preset][part] for part in ("state", "action"))
                if "gripper" in entry]  # fmt: skip
    for field in grippers:
        assert (
            called[int(field.split("[")[1].rstrip("]"))] not in ("pad", "qw", "x", "gripper_closed")
            or preset == "libero"
        )
    assert made.fields
