"""LeRobot's data sets as a source of demonstrations: whose actions are poses of a hand, and whose are not.

An action here is a pose of the hand. Arms that are recorded by their joints alone (SO-100, SO-101, Koch, ALOHA, ...) cannot
be used until there is a layout for joints: nothing in such a data set says where the hand is.
"""

from __future__ import annotations

import re

from drifting_vla_jax.data import mapping, presets
from drifting_vla_jax.data.fields import Field
from drifting_vla_jax.data.lerobot_files import LeRobotFiles
from drifting_vla_jax.data.recordings import RecordedSettings

JOINT_ARMS = ("so100", "so101", "koch", "aloha", "lekiwi", "moss", "openarm")
JOINT = re.compile(r"joint|motor|shoulder|elbow|forearm|waist|wrist_(flex|roll|pitch|angle|rotate)|\.pos$|^j\d", re.I)


class JointActionError(ValueError):
    """A data set whose actions are joint positions."""


def _refusal(what: str) -> JointActionError:
    return JointActionError(
        f"{what} are joint positions, and an action here is a pose of the hand (x y z, quaternion, gripper): there is no "
        "layout for joints yet; add fields with the hand's pose to the data set (by forward kinematics) and name them in "
        "--mapping"
    )


def read_mapping(name: str) -> dict:
    """A mapping for LeRobot's data.

    Raises:
      JointActionError: an arm that is known by its joints.
      fields.MappingError: see ``mapping.load``; or it says what the data themselves say.
    """
    if name.lower().removesuffix("_follower") in JOINT_ARMS:
        raise _refusal(f"the actions of {name}")
    spec = mapping.load(name, presets.LEROBOT)
    said = [key for key in ("control_hz", "instruction") if key in spec]
    if said:
        raise mapping.MappingError(f"{name}: {said[0]} is for --source=rlds; LeRobot's data say it themselves")
    return spec


def open_files(settings: RecordedSettings) -> LeRobotFiles:
    """The data set of these settings.

    Raises:
      JointActionError: what would be read as a pose are joints, by the names that the data set gives them or, where it
        gives none, by its robot.
      recordings.RecordingError, hub.HubError: see ``LeRobotFiles``.
    """
    files = LeRobotFiles(settings.input)
    robot = str(files.info.get("robot_type") or "").lower()
    for part in ("state", "action"):
        entry = settings.mapping[part].get("position")
        if entry is None:
            continue
        field = Field.parse(entry["field"])
        names = files.names.get(field.name, [])[field.start : field.stop]
        if any(JOINT.search(name) for name in names):
            raise _refusal(f"{field.name} of {settings.input} ({', '.join(names)})")
        if not names and robot.startswith(JOINT_ARMS) and field.name in ("action", "observation.state"):
            raise _refusal(f"{field.name} of {settings.input}, recorded with {robot},")
    return files
