"""Scripted experts for the robosuite tasks: where the hand goes next, from privileged knowledge of the scene.

An expert is a generator that yields one action, float64 [8] (see envs/base.py), per control step and never ends. It looks at
the scene before each, so that it corrects what noise, contact or its own lag did; a grasp that failed is tried again.

The hand points down; its turn about the vertical is counted in radians from where it is at the start, to the left, and not modulo
a full turn: the last joint can go 120 degrees one way and 210 the other. A gripper is the same turned by 180 degrees, a cube
by 90: of the equal ways to hold a thing an expert takes the one nearest to how the hand is turned now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from drifting_vla_jax.core.rotation import matrix

if TYPE_CHECKING:
    import mujoco

Expert = Iterator[np.ndarray]

OPEN, CLOSED = 1.0, 0.0
SPEED, SLOW = 0.4, 0.2  # m/s
TURN_SPEED = 1.0  # rad/s
GAIN = 0.4  # share of the remaining way that one control step covers where no speed limit holds
GRASP_SECONDS = 0.5  # that fingers are given to close, or to open
REACHED_METRES, REACHED_DEGREES = 0.008, 3.0
LEAST_TURN, MOST_TURN = np.radians(-105.0), np.radians(190.0)  # that the wrist has room for
CAN_NEARER = (
    -0.055,
    -0.060,
    0.0,
)  # m: where the can goes, from the middle of its part of the bin, which is out of reach
# The door, in the frames of its panel and of its lever (metres), and how far both are turned (radians).
HINGE, LEVER, LEVER_BEFORE, UNLATCHED, WIDE = (0.255, 0.0, 0.0), 0.11, -0.10, 1.42, 0.42
FARTHEST_TURN = 2.0  # radians that a target may be turned from the hand: more might be the shorter way round


class Scene:
    """What an expert knows.

    Args:
      data: the simulation, forwarded.
      grip: () -> the grip's pose, float64 [7], x y z (metres, world) qx qy qz qw.
      period: seconds of one control step.

    Attributes:
      pace: share of this module's speeds at which to go.
    """

    pace = 1.0

    def __init__(self, data: mujoco.MjData, grip: Callable[[], np.ndarray], period: float):
        self._data, self._grip, self._period = data, grip, period
        self.start, self.first = grip(), self.angle

    @property
    def position(self) -> np.ndarray:
        """Of the grip, float64 [3]."""
        return self._grip()[:3]

    @property
    def angle(self) -> float:
        """About the vertical, of the axis along which the fingers open (radians)."""
        return _heading(matrix(self._grip()[3:])[:, 0])

    @property
    def turn(self) -> float:
        """Of the hand, since the start."""
        return self.turns(self.angle)[0]

    def body(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Position [3] and rotation matrix [3, 3] of a body now."""
        body = self._data.body(name)
        return body.xpos.copy(), body.xmat.reshape(3, 3).copy()

    def steps(self, seconds: float) -> int:
        """Control steps that what takes so long at full pace may take."""
        return max(1, round(seconds / (self.pace * self._period)))

    def turns(self, angle: float, symmetry: float = 2 * np.pi) -> list[float]:
        """Of the angles that differ by multiples of ``symmetry``: those the wrist has room for, as turns, nearest first."""
        middle = (LEAST_TURN + MOST_TURN) / 2
        nearest = middle + _wrapped(angle - self.first - middle)
        if symmetry == 2 * np.pi:
            return [nearest]
        every = [t for k in range(round(2 * np.pi / symmetry)) for t in self.turns(angle + k * symmetry)]
        now = self.turn
        return sorted((t for t in every if LEAST_TURN <= t <= MOST_TURN), key=lambda t: abs(t - now))

    def toward(self, position: np.ndarray, turn: float, gripper: float, speed: float = SPEED) -> np.ndarray:
        """The action that leads a control step's way toward a place, pointing down."""
        now = self.turn
        near = now + np.clip(turn - now, -FARTHEST_TURN, FARTHEST_TURN)
        return self.step_toward(position, downward(self.first + near), gripper, speed)

    def step_toward(self, position: np.ndarray, quaternion: np.ndarray, gripper: float, speed=SPEED) -> np.ndarray:
        """The action that leads a control step's way toward a pose."""
        import mujoco

        here = self._grip()
        way = position - here[:3]
        step = here[:3] + way * min(GAIN, self.pace * speed * self._period / max(np.linalg.norm(way), 1e-9))
        start, turn = np.roll(here[3:], 1), np.zeros(3)
        mujoco.mju_subQuat(turn, np.roll(quaternion, 1), start)
        rate = self.pace * TURN_SPEED * self._period
        mujoco.mju_quatIntegrate(start, turn, min(GAIN, rate / max(np.linalg.norm(turn), 1e-9)))
        return np.array([*step, *np.roll(start, -1), gripper])

    def reached(self, position: np.ndarray, turn: float, metres: float = REACHED_METRES) -> bool:
        return self.at(position, downward(self.first + turn), metres)

    def at(self, position: np.ndarray, quaternion: np.ndarray, metres: float = REACHED_METRES) -> bool:
        here = self._grip()
        apart = 2 * np.arccos(min(1.0, abs(float(here[3:] @ quaternion))))
        return np.linalg.norm(here[:3] - position) < metres and apart < np.radians(REACHED_DEGREES)


def downward(angle: float) -> np.ndarray:
    """The hand pointing down, its fingers opening along ``angle`` about the vertical; x y z w."""
    return np.array([np.cos(angle / 2), np.sin(angle / 2), 0.0, 0.0])


def move(
    scene: Scene, position: np.ndarray, turn: float, gripper: float, speed: float = SPEED, limit: float = 4.0
) -> Expert:
    """Goes to a pose; gives up after ``limit`` seconds, pressed against something."""
    for _ in range(scene.steps(limit)):
        if scene.reached(position, turn):
            return
        yield scene.toward(position, turn, gripper, speed)


def wait(scene: Scene, position: np.ndarray, turn: float, gripper: float, seconds: float) -> Expert:
    """Stays at a pose, the gripper doing what it is told."""
    for _ in range(scene.steps(seconds)):
        yield scene.toward(position, turn, gripper)


def grasp(scene: Scene, position: np.ndarray, turn: float, above: float) -> Expert:
    """From above down to a pose, and closes there."""
    high = position + [0.0, 0.0, above]
    if scene.position[2] < high[2] - 0.02:  # never sideways through what stands on the table
        yield from move(scene, np.append(scene.position[:2], high[2]), turn, OPEN)
    yield from move(scene, high, turn, OPEN)
    yield from move(scene, position, turn, OPEN, SLOW)
    yield from wait(scene, position, turn, CLOSED, GRASP_SECONDS)


def release(scene: Scene, turn: float, above: float) -> Expert:
    """Opens where the hand is, rises, and stays."""
    here = scene.position
    yield from wait(scene, here, turn, OPEN, GRASP_SECONDS)
    high = here + [0.0, 0.0, above]
    yield from move(scene, high, turn, OPEN)
    while True:
        yield scene.toward(high, turn, OPEN)


def lift(scene: Scene) -> Expert:
    """The cube, 15 cm up."""
    while True:
        position, frame = scene.body("cube_main")
        turn = scene.turns(_heading(_level(frame)), np.pi / 2)[0]
        yield from grasp(scene, position, turn, above=0.10)
        up = position + [0.0, 0.0, 0.15]
        yield from move(scene, up, turn, CLOSED)
        while scene.body("cube_main")[0][2] > position[2] + 0.05:
            yield scene.toward(up, turn, CLOSED)


def stack(scene: Scene) -> Expert:
    """The red cube onto the green one, their sides aligned."""
    while True:
        red, frame = scene.body("cubeA_main")
        turn = scene.turns(_heading(_level(frame)), np.pi / 2)[0]
        yield from grasp(scene, red, turn, above=0.10)
        yield from move(scene, red + [0.0, 0.0, 0.12], turn, CLOSED)
        held, frame = scene.body("cubeA_main")
        if held[2] < red[2] + 0.05:
            continue
        green, other = scene.body("cubeB_main")
        turn = scene.turns(scene.angle + _heading(_level(other)) - _heading(_level(frame)), np.pi / 2)[0]
        offset = scene.position - held
        top = green + [0.0, 0.0, 0.025 + 0.020] + offset
        yield from move(scene, top + [0.0, 0.0, 0.06], turn, CLOSED)
        offset = scene.position - scene.body("cubeA_main")[0]
        top = green + [0.0, 0.0, 0.025 + 0.020] + offset
        yield from move(scene, top + [0.0, 0.0, 0.003], turn, CLOSED, SLOW)
        yield from release(scene, turn, above=0.10)


def pick_place_can(scene: Scene) -> Expert:
    """The can into the far bin's corner that is its own; a can has no side, so that the hand keeps its angle."""
    while True:
        can, _ = scene.body("Can_main")
        turn = scene.turns(scene.first, np.pi)[0]
        yield from grasp(scene, can + [0.0, 0.0, 0.01], turn, above=0.14)
        yield from move(scene, can + [0.0, 0.0, 0.26], turn, CLOSED)
        if scene.body("Can_main")[0][2] < can[2] + 0.10:
            continue
        goal = scene.body("VisualCan_main")[0] + CAN_NEARER
        yield from move(scene, np.append(goal[:2], can[2] + 0.26), turn, CLOSED)
        yield from move(scene, np.append(goal[:2], goal[2] + 0.10), turn, CLOSED, SLOW)
        yield from release(scene, turn, above=0.18)


def nut_assembly_square(scene: Scene) -> Expert:
    """The nut by its handle, its square hole over the square peg."""
    while True:
        nut, frame = scene.body("SquareNut_main")
        away = _heading(frame[:, 0])  # where the handle points, across which the fingers close
        # On the peg it points to the robot, because the peg is at the end of the arm's reach. The hand turns as far as the nut
        # does and must have room at both ends.
        now, rounds = scene.turn, (-2 * np.pi, 0.0, 2 * np.pi)
        ways = [(t, t + np.pi - away + more) for t in scene.turns(away + np.pi / 2, np.pi) for more in rounds]
        ways = [way for way in ways if LEAST_TURN <= way[1] <= MOST_TURN]
        turn, last = min(ways, key=lambda way: abs(way[0] - now) + abs(way[1] - way[0]))
        yield from grasp(scene, nut + frame @ [0.054, 0.0, 0.004], turn, above=0.10)
        yield from move(scene, scene.position + [0.0, 0.0, 0.05], turn, CLOSED, SLOW)
        held, _ = scene.body("SquareNut_main")
        if held[2] < nut[2] + 0.02:
            continue
        peg, _ = scene.body("peg1")
        yield from move(scene, np.append(scene.position[:2], peg[2] + 0.16), turn, CLOSED)
        _, frame = scene.body("SquareNut_main")
        askew = _wrapped(scene.turn + np.pi - _heading(frame[:, 0]) - last)  # how the nut turned in the fingers
        turn = last + askew
        for _ in range(4):
            for height, speed, close, limit in ((0.13, SPEED, 0.004, 4.0), (0.02, SLOW, 0.010, 2.0)):
                for _ in range(scene.steps(limit)):
                    goal = np.append(peg[:2], peg[2] + height) + scene.position - scene.body("SquareNut_main")[0]
                    if scene.reached(goal, turn, close):
                        break
                    yield scene.toward(goal, turn, CLOSED, speed)
            if scene.body("SquareNut_main")[0][2] < peg[2] + 0.06:  # it hangs on the peg, and did not land on its edge
                break
        yield from release(scene, turn, above=0.12)


def door(scene: Scene) -> Expert:
    """The lever down, then the door by it: the only task in which the hand lies level.

    The lever is held at LEVER from its axis, one finger above and one below, and the hand rolls with it.
    """
    (latch, frame), (panel, _) = scene.body("Door_latch"), scene.body("Door_door")
    hinge, up, into = panel + frame @ HINGE, np.array([0.0, 0.0, 1.0]), frame[:, 1]
    hand = np.stack([up, np.cross(into, up), into], axis=1)

    def pose(lever: float, opened: float, before: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """With lever and hinge at these angles (radians), ``before`` metres in front of it."""
        roll, swing = _about(into, lever), _about(up, opened)
        place = latch + roll @ frame @ [LEVER, 0.0, 0.0] + frame @ [0.0, LEVER_BEFORE - before, 0.0]
        return hinge + swing @ (place - hinge), _quaternion(swing @ roll @ hand)

    # From where the hand was first, which is where the wrist turns to the side on which it has room.
    goals = ((scene.start[:3], scene.start[3:]), SPEED), (pose(0.0, 0.0, 0.12), SPEED), (pose(0.0, 0.0), SLOW)
    for goal, speed in goals:
        for _ in range(scene.steps(5.0)):
            if scene.at(*goal):
                break
            yield scene.step_toward(*goal, OPEN, speed)
    for _ in range(scene.steps(GRASP_SECONDS)):
        yield scene.step_toward(*goal, CLOSED)
    for lever in np.linspace(0.0, UNLATCHED, scene.steps(2.0)):
        yield scene.step_toward(*pose(lever, 0.0), CLOSED)
    for opened in np.linspace(0.0, WIDE, scene.steps(2.5)):
        yield scene.step_toward(*pose(UNLATCHED, opened), CLOSED)
    while True:
        yield scene.step_toward(*pose(UNLATCHED, WIDE), CLOSED)


EXPERTS: dict[str, Callable[[Scene], Expert]] = {
    "door": door,
    "lift": lift,
    "nut-assembly-square": nut_assembly_square,
    "pick-place-can": pick_place_can,
    "stack": stack,
}


def _heading(axis: np.ndarray) -> float:
    """Angle of a level axis about the vertical (radians)."""
    return float(np.arctan2(axis[1], axis[0]))


def _level(frame: np.ndarray) -> np.ndarray:
    """The most level axis of a box that lies on any of its sides."""
    return frame[:, np.argmin(np.abs(frame[2]))]


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix of an angle about a unit axis."""
    return matrix(np.append(np.sin(angle / 2) * axis, np.cos(angle / 2)))


def _quaternion(frame: np.ndarray) -> np.ndarray:
    """A rotation matrix as x y z w."""
    import mujoco

    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(frame).ravel())
    return np.roll(quaternion, -1)


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
