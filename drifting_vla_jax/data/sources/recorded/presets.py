"""Mappings with a name (see ``mapping.py``), and what is known about the data sets that they are for.

LeRobot: an arm with its hand's pose in ``observation.state`` and ``action``, by how rotations are written.

    ee_*         absolute poses            x y z, rotation, gripper 1 open
    ee_delta_*   added to the state's      the same, of the hand in the base's frame
    libero       as HuggingFaceVLA/libero names its fields; otherwise as below
    drifting_vla what ``data.export`` writes
    aloha        absolute joints in radians of two arms, 6 and a gripper (1 open) each, the left one first
    so100, so101 absolute joints of one arm in LeRobot's unit, 5 and a gripper (100 open)

RLDS, from what the sets' makers and their readers say (openvla's and octo's transforms, SimplerEnv's replays):

    libero   20 Hz  robosuite OSC_POSE: of -1 .. 1 up to 5 cm and 0.5 rad (axis-angle), added in the base's frame to
                    the present pose; gripper -1 open, 1 closed; state: position, axis-angle, two fingers 0 .. 4 cm
    bridge    5 Hz  the first action is all zero (left out); recorded commands lag, so targets are the poses that were
                    reached, as openvla does; euler angles are 0 for a hand that points down
    fractal   3 Hz  metres and roll, pitch, yaw added in the base's frame; the gripper's word is a change: 1 closes
    droid    15 Hz  commanded poses; gripper 0 open, 1 closed, in the state too
"""

from __future__ import annotations


def _arm(form: str, width: int, kind: str) -> dict:
    def vector(field: str) -> dict:
        last = 3 + width
        return {
            "position": f"{field}[0:3]",
            "rotation": {"field": f"{field}[3:{last}]", "form": form},
            "gripper": {"field": f"{field}[{last}]", "open": 1, "closed": 0},
        }

    return {"state": vector("observation.state"), "action": {"kind": kind, **vector("action")}}


def _joints(arms: int, joints: int, opened: float) -> dict:
    """``arms`` times so many joints and a gripper."""

    def vector(field: str) -> dict:
        firsts = [arm * (joints + 1) for arm in range(arms)]
        return {
            "joints": [f"{field}[{first}:{first + joints}]" for first in firsts],
            "grippers": [{"field": f"{field}[{first + joints}]", "open": opened, "closed": 0} for first in firsts],
        }

    return {
        "layout": "joints",
        "state": vector("observation.state"),
        "action": {"kind": "absolute", **vector("action")},
    }


def _libero(state: str, action: str) -> dict:
    return {
        "state": {
            "position": f"{state}[0:3]",
            "rotation": {"field": f"{state}[3:6]", "form": "axis_angle"},
            "gripper": {"field": f"{state}[6]", "open": 0.04, "closed": 0},
        },
        "action": {
            "kind": "delta",
            "frame": "base",
            "position": {"field": f"{action}[0:3]", "scale": 0.05},
            "rotation": {"field": f"{action}[3:6]", "form": "axis_angle", "scale": 0.5},
            "gripper": {"field": f"{action}[6]", "open": -1, "closed": 1},
        },
    }


LEROBOT = {
    "ee_euler": _arm("euler_xyz", 3, "absolute"),
    "ee_axis_angle": _arm("axis_angle", 3, "absolute"),
    "ee_quaternion": _arm("quaternion_xyzw", 4, "absolute"),
    "ee_delta_euler": _arm("euler_xyz", 3, "delta"),
    "ee_delta_axis_angle": _arm("axis_angle", 3, "delta"),
    "libero": {
        "cameras": {"front": "observation.images.image", "wrist": "observation.images.image2"},
        **_libero("observation.state", "action"),
    },
    "drifting_vla": {
        "state": {"position": "observation.state[0:3]", "more": ["observation.state[3:]"]},
        "action": _arm("quaternion_xyzw", 4, "absolute")["action"],
    },
    "aloha": _joints(2, 6, 1),
    "so100": _joints(1, 5, 100),
    "so101": _joints(1, 5, 100),
}

_BRIDGE = {
    "control_hz": 5,
    "skip_first": 1,
    "state": {
        "position": "observation/state[0:3]",
        "rotation": {"field": "observation/state[3:6]", "form": "euler_xyz"},
        "gripper": {"field": "observation/state[6]", "open": 1, "closed": 0},
    },
}

RLDS = {
    "libero": {
        "control_hz": 20,
        "instruction": ["language_instruction"],
        "cameras": {"front": "observation/image", "wrist": "observation/wrist_image"},
        **_libero("observation/state", "action"),
    },
    "bridge": {
        **_BRIDGE,
        "instruction": ["language_instruction"],
        "cameras": {"front": "observation/image_0"},
        "action": {"kind": "achieved", "gripper": {"field": "action[6]", "open": 1, "closed": 0}},
    },
    "bridge_oxe": {
        **_BRIDGE,
        "instruction": ["observation/natural_language_instruction"],
        "cameras": {"front": "observation/image"},
        "action": {"kind": "achieved", "gripper": {"field": "action/open_gripper", "open": 1, "closed": 0}},
    },
    "fractal": {
        "control_hz": 3,
        "instruction": ["observation/natural_language_instruction"],
        "cameras": {"front": "observation/image"},
        "state": {
            "position": "observation/base_pose_tool_reached[0:3]",
            "rotation": {"field": "observation/base_pose_tool_reached[3:7]", "form": "quaternion_xyzw"},
            "gripper": {"field": "observation/gripper_closed", "open": 0, "closed": 1},
        },
        "action": {
            "kind": "delta",
            "frame": "base",
            "position": "action/world_vector",
            "rotation": {"field": "action/rotation_delta", "form": "euler_xyz"},
            "gripper": {"field": "action/gripper_closedness_action", "open": -1, "closed": 1, "relative": True},
        },
    },
    "droid": {
        "control_hz": 15,
        "instruction": ["language_instruction", "language_instruction_2", "language_instruction_3"],
        "cameras": {"side": "observation/exterior_image_1_left", "wrist": "observation/wrist_image_left"},
        "state": {
            "position": "observation/cartesian_position[0:3]",
            "rotation": {"field": "observation/cartesian_position[3:6]", "form": "euler_xyz"},
            "gripper": {"field": "observation/gripper_position", "open": 0, "closed": 1},
        },
        "action": {
            "kind": "absolute",
            "position": "action_dict/cartesian_position[0:3]",
            "rotation": {"field": "action_dict/cartesian_position[3:6]", "form": "euler_xyz"},
            "gripper": {"field": "action_dict/gripper_position", "open": 0, "closed": 1},
        },
    },
}
