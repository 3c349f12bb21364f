"""LeRobot's data sets as a source of demonstrations: what is read as a pose of a hand must not be joints.

Arms that are recorded by their joints alone (SO-100, SO-101, Koch, ALOHA, ...) are read by mappings of the layout joints;
by others they are refused: nothing in such a data set says where the hand is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from drifting_vla_jax.data.sources.lerobot.reader import LeRobotFiles
from drifting_vla_jax.data.sources.recorded import mapping, presets
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.data.sources.recorded.fields import Field
from drifting_vla_jax.data.sources.recorded.source import RecordedSource

JOINT_ARMS = ("so100", "so101", "koch", "aloha", "lekiwi", "moss", "openarm")
JOINT = re.compile(r"joint|motor|shoulder|elbow|forearm|waist|wrist_(flex|roll|pitch|angle|rotate)|\.pos$|^j\d", re.I)


class JointActionError(ValueError):
    """Joint positions that would be read as a pose."""


def _refusal(what: str) -> JointActionError:
    return JointActionError(
        f'{what} are joint positions, and this mapping reads a pose of the hand; use one with "layout": "joints", as the '
        "preset aloha (docs/reference/mapping-language.md), or add fields with the hand's pose to the data set (by forward "
        "kinematics)"
    )


def read_mapping(name: str) -> dict:
    """A mapping for LeRobot's data.

    Raises:
      JointActionError: an arm that is known by its joints, and has no preset.
      fields.MappingError: see ``mapping.load``; or it says what the data themselves say.
    """
    if name not in presets.LEROBOT and name.lower() in JOINT_ARMS:
        raise JointActionError(f'{name} is recorded by its joints and has no preset; write a mapping with "layout": '
                               '"joints", see docs/reference/mapping-language.md')  # fmt: skip
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
        entries = settings.mapping[part]
        for hand in (entries, entries.get("left", {}), entries.get("right", {})):
            if "position" in hand:
                _check_pose(hand["position"], files, robot, settings.input)
    return files


def _check_pose(entry: Mapping, files: LeRobotFiles, robot: str, source: str) -> None:
    field = Field.parse(entry["field"])
    names = entry.get("names") or files.names.get(field.name, [])[field.start : field.stop]
    if any(JOINT.search(name) for name in names):
        raise _refusal(f"{field.name} of {source} ({', '.join(names)})")
    if not names and robot.startswith(JOINT_ARMS) and field.name in ("action", "observation.state"):
        raise _refusal(f"{field.name} of {source}, recorded with {robot},")


class LeRobot(RecordedSource):
    """LeRobot's data sets, versions 2.0 to 3.0, from a folder or the Hugging Face hub."""

    def read_mapping(self, name: str) -> dict:
        return read_mapping(name)

    def open_files(self, settings: RecordedSettings) -> LeRobotFiles:
        return open_files(settings)
