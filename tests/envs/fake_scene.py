"""The world behind the fake simulator: frames, a Panda's kinematics, spheres on a table, and a camera that sees them.

Kinematics only: joints move to where they are told at a bounded speed, nothing weighs, slides, or collides. Objects are
frames in a tree; a joint turns or slides what hangs on it about its z. Numbers of the arm are Franka's published ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SHAPE, JOINT, DUMMY, PROXIMITY, VISION, FORCE = 0, 1, 4, 5, 9, 12  # CoppeliaSim's object types
BASE, TABLE = np.array([-0.3, 0.0, 0.752]), 0.752
HOME = (0.0, 0.1755, 0.0, -0.8722, 0.0, 1.2213, 0.7854)
DT, JOINT_SPEED, FINGER = 0.05, 3.0, 0.04

# Of the arm's joints: twist about x, offset along x, offset along z, lowest, highest.
PANDA = (
    (0.0, 0.0, 0.333, -2.8973, 2.8973),
    (-np.pi / 2, 0.0, 0.0, -1.7628, 1.7628),
    (np.pi / 2, 0.0, 0.316, -2.8973, 2.8973),
    (np.pi / 2, 0.0825, 0.0, -3.0718, -0.0698),
    (-np.pi / 2, -0.0825, 0.384, -2.8973, 2.8973),
    (np.pi / 2, 0.0, 0.0, -0.0175, 3.7525),
    (np.pi / 2, 0.088, 0.0, -2.8973, 2.8973),
)
CAMERAS = {  # eye, what it looks at (metres), field of view (degrees); the wrist's is in the gripper's frame
    "cam_front": ((1.35, 0.0, 1.58), (0.1, 0.0, 1.0), 50.0),
    "cam_over_shoulder_left": ((-0.2, 0.9, 1.8), (0.3, 0.0, 0.95), 60.0),
    "cam_over_shoulder_right": ((-0.2, -0.9, 1.8), (0.3, 0.0, 0.95), 60.0),
    "cam_overhead": ((0.25, 0.0, 2.2), (0.26, 0.0, 0.75), 60.0),
    "cam_wrist": ((0.07, 0.0, 0.0), (0.05, 0.0, 0.3), 70.0),
}


@dataclass
class Thing:
    """An object of the scene; ``value`` is a joint's position, ``radius`` and ``colour`` are of what can be seen."""

    handle: int
    name: str
    kind: int
    parent: int = -1
    local: np.ndarray = field(default_factory=lambda: np.eye(4))
    box: tuple = (-0.02, 0.02, -0.02, 0.02, -0.02, 0.02)
    model: int = 0xF000  # "not a model"
    radius: float = 0.0
    colour: tuple = (0.5, 0.5, 0.5)
    value: float = 0.0
    target: float = 0.0
    speed: float = 0.0
    interval: tuple = (0.0, 0.0)
    slides: bool = False
    integers: dict = field(default_factory=dict)


def translation(x: float, y: float, z: float) -> np.ndarray:
    frame = np.eye(4)
    frame[:3, 3] = x, y, z
    return frame


def rotation(axis: int, angle: float) -> np.ndarray:
    frame, (a, b) = np.eye(4), [(axis + 1) % 3, (axis + 2) % 3]
    frame[a, a] = frame[b, b] = np.cos(angle)
    frame[b, a], frame[a, b] = np.sin(angle), -np.sin(angle)
    return frame


def quaternion(frame: np.ndarray) -> np.ndarray:
    """x y z w of a frame."""
    m, candidates = frame[:3, :3], []
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        candidates.append(1 + signs[0] * m[0, 0] + signs[1] * m[1, 1] + signs[2] * m[2, 2])
    size = 2 * np.sqrt(max(candidates))
    skew = (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    best = int(np.argmax(candidates))
    if best == 0:
        return np.array([*skew, size * size / 4]) / size
    q, i = np.zeros(4), best - 1
    for j in range(3):
        q[j] = size / 4 if i == j else (m[i, j] + m[j, i]) / size
    q[3] = skew[i] / size
    return q


def from_quaternion(q) -> np.ndarray:
    x, y, z, w = np.asarray(q, float) / np.linalg.norm(q)
    frame = np.eye(4)
    frame[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return frame


def looking(eye, at) -> np.ndarray:
    """A sensor's frame: z where it looks, x to the picture's left, y up."""
    eye, at = np.asarray(eye, float), np.asarray(at, float)
    z = (at - eye) / np.linalg.norm(at - eye)
    up = np.array([0.0, 0, 1]) if abs(z[2]) < 0.99 else np.array([1.0, 0, 0])
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = np.stack([x, np.cross(z, x), z], axis=1), eye
    return frame


class World:
    """Every object by handle, and what time does to them."""

    def __init__(self):
        self.things: dict[int, Thing] = {}
        self._next = 10
        base = self.add("Panda", SHAPE, local=translation(*BASE), model=0, radius=0.08)
        parent, self.joints = base, []
        for number, (twist, along_x, along_z, low, high) in enumerate(PANDA, 1):
            local = rotation(0, twist) @ translation(along_x, 0, along_z)
            joint = self.add(f"Panda_joint{number}", JOINT, parent, local, interval=(low, high), radius=0.06)
            joint.value = joint.target = HOME[number - 1]
            self.joints.append(joint)
            parent = joint
        gripper = self.add(
            "Panda_gripper", SHAPE, parent, translation(0, 0, 0.107) @ rotation(2, -np.pi / 4), model=0, radius=0.05
        )
        self.tip = self.add("Panda_tip", DUMMY, gripper, translation(0, 0, 0.1034))
        self.target = self.add("Panda_target", DUMMY, local=self.frame(self.tip))
        for number, side in ((1, -np.pi / 2), (2, np.pi / 2)):
            local = translation(0, 0, 0.06) @ rotation(0, side)
            finger = self.add(
                f"Panda_gripper_joint{number}", JOINT, gripper, local, interval=(0, FINGER), slides=True, radius=0.015
            )
            finger.value = finger.target = FINGER
        self.add("Panda_gripper_attachProxSensor", PROXIMITY, self.tip)
        self.add("Panda_gripper_attachPoint", FORCE, self.tip)
        self.add("workspace", SHAPE, local=translation(0.25, 0, TABLE), box=(-0.275, 0.275, -0.45, 0.45, 0, 0))
        for name, (eye, at, degrees) in CAMERAS.items():
            parent = gripper if name == "cam_wrist" else None
            for suffix in ("", "_mask"):
                sensor = self.add(f"{name}{suffix}", VISION, parent, looking(eye, at))
                sensor.value, sensor.integers = np.radians(degrees), {1002: 128, 1003: 128}

    def add(self, name: str, kind: int, parent: Thing | None = None, local=None, **more) -> Thing:
        thing = Thing(self._next, name, kind, -1 if parent is None else parent.handle, **more)
        if local is not None:
            thing.local = local
        self.things[thing.handle] = thing
        self._next += 1
        return thing

    def load_reach_target(self) -> Thing:
        """The task's objects, by the names that rlbench.tasks.reach_target asks for; no other task is known."""
        root = self.add("reach_target", DUMMY, local=translation(0.25, 0, TABLE), model=0)
        self.add("boundary", SHAPE, root, translation(0, 0, 0.25), box=(-0.15, 0.2, -0.3, 0.3, -0.15, 0.2))
        target = self.add("target", SHAPE, root, translation(0.0, 0, 0.25), radius=0.03)
        self.add("success", PROXIMITY, target)
        for number, y in enumerate((-0.2, 0.2)):
            self.add(f"distractor{number}", SHAPE, root, translation(0, y, 0.25), radius=0.03)
        self.add("waypoint0", DUMMY, target, rotation(0, np.pi))
        return root

    def frame(self, thing: Thing) -> np.ndarray:
        """World frame of an object, before its own joint turns."""
        if thing.parent < 0:
            return thing.local
        parent = self.things[thing.parent]
        return self.frame(parent) @ motion(parent) @ thing.local

    def place(self, thing: Thing, world: np.ndarray) -> None:
        """Puts an object where its world frame is this."""
        parent = self.things.get(thing.parent)
        above = np.eye(4) if parent is None else self.frame(parent) @ motion(parent)
        thing.local = np.linalg.inv(above) @ world

    def tree(self, root: int) -> list[Thing]:
        """An object and all that hangs on it."""
        children = [t for t in self.things.values() if t.parent == root]
        return [self.things[root], *(below for child in children for below in self.tree(child.handle))]

    def step(self) -> None:
        """One step of simulated time."""
        for joint in self.things.values():
            if joint.kind != JOINT:
                continue
            if joint.slides:
                joint.value += joint.speed * DT
            else:
                joint.value += float(np.clip(joint.target - joint.value, -JOINT_SPEED * DT, JOINT_SPEED * DT))
            joint.value = float(np.clip(joint.value, *joint.interval))

    def solve(self, goal: np.ndarray, start) -> np.ndarray | None:
        """Joint positions near ``start`` at which the tip's frame is ``goal``: damped least squares; None if there are none."""
        before, q = [j.value for j in self.joints], np.array(start, float)
        low, high = np.array([j.interval for j in self.joints]).T
        try:
            for _ in range(60):
                for joint, value in zip(self.joints, q):
                    joint.value = value
                tip = self.frame(self.tip)
                turn = quaternion(goal[:3, :3] @ tip[:3, :3].T)
                error = np.concatenate([goal[:3, 3] - tip[:3, 3], 2 * turn[:3] * np.sign(turn[3] or 1)])
                if np.linalg.norm(error) < 1e-6:
                    return q
                frames = [self.frame(joint) for joint in self.joints]
                axes = np.array([f[:3, 2] for f in frames])
                arms = tip[:3, 3] - np.array([f[:3, 3] for f in frames])
                jacobian = np.concatenate([np.cross(axes, arms), axes], axis=1).T
                step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-5 * np.eye(6), error)
                q = np.clip(q + step, low, high)
            return None
        finally:
            for joint, value in zip(self.joints, before):
                joint.value = value


def motion(thing: Thing) -> np.ndarray:
    """What an object's own joint does to its children."""
    if thing.kind != JOINT:
        return np.eye(4)
    return translation(0, 0, thing.value) if thing.slides else rotation(2, thing.value)


def picture(world: World, sensor: Thing) -> np.ndarray:
    """What a sensor sees, float32 [height, width, 3] of 0 .. 1, first row on top: spheres, a table and the sky."""
    width, height = sensor.integers[1002], sensor.integers[1003]
    focal = width / (2 * np.tan(sensor.value / 2))
    left = (width / 2 - np.arange(width) - 0.5) / focal
    up = (height / 2 - np.arange(height) - 0.5) / focal
    rays = np.stack([*np.broadcast_arrays(left[None, :], up[:, None]), np.ones((height, width))], axis=-1)
    frame = world.frame(sensor)
    rays = rays @ frame[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    eye = frame[:3, 3]
    colours = np.broadcast_to([0.72, 0.78, 0.85], rays.shape).copy()
    nearest = np.full(rays.shape[:2], np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (TABLE - eye[2]) / rays[..., 2]
        hit = eye + distance[..., None] * rays
    table = (distance > 0) & (abs(hit[..., 0] - 0.25) < 0.5) & (abs(hit[..., 1]) < 0.7)
    squares = ((np.floor(hit[..., 0] * 10) + np.floor(hit[..., 1] * 10)) % 2)[..., None]
    colours, nearest = np.where(table[..., None], 0.55 + 0.08 * squares, colours), np.where(table, distance, nearest)
    for centre, radius, colour in spheres(world):
        to = centre - eye
        along = rays @ to
        inside = radius**2 - (to @ to - along**2)
        distance = along - np.sqrt(np.maximum(inside, 0))
        seen = (inside > 0) & (distance > 0.01) & (distance < nearest)
        normal = (eye + distance[..., None] * rays - centre) / radius
        shade = 0.55 + 0.45 * np.clip(normal @ np.array([0.3, 0.2, 0.93]), 0, 1)
        colours = np.where(seen[..., None], shade[..., None] * np.asarray(colour), colours)
        nearest = np.where(seen, distance, nearest)
    return colours.astype(np.float32)


def spheres(world: World) -> list[tuple]:
    """Centre, radius and colour of what is round: targets, and the arm as a string of beads."""
    found = []
    for thing in world.things.values():
        if not thing.radius:
            continue
        frame = world.frame(thing)
        centre = (frame @ motion(thing))[:3, 3]
        colour = (0.95, 0.95, 0.92) if thing.name.startswith("Panda") else thing.colour
        parent = world.things.get(thing.parent)
        if parent is not None and parent.radius and thing.name.startswith("Panda"):
            start = world.frame(parent)[:3, 3]
            found += [(start + share * (centre - start), 0.045, colour) for share in (0.25, 0.5, 0.75)]
        found.append((centre, thing.radius, colour))
    return found
