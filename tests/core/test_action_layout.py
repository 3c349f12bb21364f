"""What the numbers of an action are called and where they lie, at the boundary and in the network."""

import pytest

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.envs.base import ACTION_NAMES


def where(layout):
    return {part.name: (part.boundary, part.network, part.present) for part in layout.parts}


def test_one_end_effector_is_what_simulators_take():
    assert END_EFFECTOR.names == ACTION_NAMES
    assert (END_EFFECTOR.dim, END_EFFECTOR.network_dim, END_EFFECTOR.present_dim) == (8, 10, 3)
    assert where(END_EFFECTOR) == {
        "position": (slice(0, 3), slice(0, 3), slice(0, 3)),
        "rotation": (slice(3, 7), slice(3, 9), None),
        "gripper": (slice(7, 8), slice(9, 10), None),
    }


def test_two_arms_are_two_of_them_side_by_side():
    both = ActionLayout("bimanual")
    assert (both.dim, both.network_dim, both.present_dim) == (16, 20, 6)
    assert both.names[:8] == tuple(f"left {name}" for name in ACTION_NAMES) and both.names[15] == "right gripper"
    assert where(both)["right_position"] == (slice(8, 11), slice(10, 13), slice(3, 6))
    assert [part.name for part in both.parts][:4] == [
        "left_position",
        "left_rotation",
        "left_gripper",
        "right_position",
    ]


def test_joints_are_as_they_are_named():
    arm = ActionLayout("joints", ("shoulder", "elbow"), ("gripper",))
    assert (arm.dim, arm.network_dim, arm.present_dim) == (3, 3, 2) and arm.names == ("shoulder", "elbow", "gripper")
    assert where(arm)["gripper"] == (slice(2, 3), slice(2, 3), None)
    assert ActionLayout("joints", ("lift",)).dim == 1
    assert str(arm) == "joints (shoulder, elbow; grippers gripper)" and str(ActionLayout("bimanual")) == "bimanual"
    assert ActionLayout.from_json(arm.to_json()) == arm and ActionLayout.from_json(None) == END_EFFECTOR


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("legs",), "layout is 'legs'; expected end_effector or bimanual or joints"),
        (("joints", (), ("gripper",)), "config.action.joints names none"),
        (("bimanual", ("a",)), "name a, but config.action.layout is bimanual; leave them empty or set it to joints"),
        (("joints", ("a", "b"), ("b",)), "name b more than once"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ActionLayout(*fields)
