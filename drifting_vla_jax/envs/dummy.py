"""A simulator of a few dozen lines of numpy: a point that must reach the ball of the colour it is asked for.

It has everything the interface has (seeded scenes, drawn images, instructions, typed errors) and needs no rendering
library: for tests, and for trying a policy server or a robot's client before a simulator is installed.

    world    metres; x in -0.3 .. 0.3, y in 0.3 .. 0.9, z in 0 .. 0.4
    state    float32 [4]  x y z of the point | gripper opening
    views    "front": x to the right, z up; "side": y to the right, z up; "above": x to the right, y up

The point moves at most 1 cm per simulator step straight toward its target. Success: within 2 cm of the asked ball.
Targets more than 1 m from the origin are out of reach (IKError). Variation 0 is the task; variation 1 is the same task
in a simulator that breaks at the third step (EnvCrashError), to see what a rollout makes of it.
"""

from __future__ import annotations

import numpy as np

from drifting_vla_jax.envs.base import EnvCrashError, EnvObservation, IKError, Step, check_action, check_task_name
from drifting_vla_jax.envs.info import EnvInfo

LOW, HIGH = np.array([-0.3, 0.3, 0.0]), np.array([0.3, 0.9, 0.4])
START = np.array([0.0, 0.6, 0.2])
SIMULATOR_HZ = 40
METRES_PER_STEP = 0.01
SUCCESS_METRES = 0.02
REACH_METRES = 1.0

AXES = {"front": (0, 2), "side": (1, 2), "above": (0, 1)}  # which world axes a view shows: to the right, up
COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 230)}
INSTRUCTIONS = {
    f"reach-{colour}": (f"reach the {colour} ball", f"go to the {colour} ball", f"touch the {colour} one")
    for colour in COLOURS
}


class Dummy:
    """See the module; one object for both tasks.

    Args:
      cameras: views to draw into observations, of ``AXES``.
      image_size: height and width of a view, pixels.
      frame_skip: simulator steps per control step.

    Raises:
      ValueError: unknown camera, or a size or skip below 1.
    """

    info = EnvInfo(
        title="dummy",
        tasks=tuple(INSTRUCTIONS),
        cameras=tuple(AXES),
        state_names=("x", "y", "z", "gripper"),
        simulator_hz=SIMULATOR_HZ,
    )

    def __init__(self, cameras: tuple[str, ...], image_size: int, frame_skip: int):
        for camera in cameras:
            self._check_camera(camera)
        if image_size < 1 or frame_skip < 1:
            raise ValueError(f"image_size {image_size} and frame_skip {frame_skip} must be at least 1")
        self.control_hz = SIMULATOR_HZ / frame_skip
        self._cameras, self._image_size, self._frame_skip = tuple(cameras), image_size, frame_skip
        self._balls: dict[str, np.ndarray] | None = None

    def reset(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See Env.reset."""
        self.check_task(task)
        if variation not in (0, 1):
            raise ValueError(
                f"unknown variation {variation} of {task}; expected 0, or 1, which breaks at the third step"
            )
        rng = np.random.default_rng([abs(seed), int(seed < 0), *task.encode()])
        # One ball in each half of the table, 10 cm or more apart, the colours on either side by chance.
        half = (HIGH - LOW) * (0.4, 0.9, 0.9)
        corners = np.array([LOW, LOW + (HIGH - LOW) * (0.6, 0, 0)]) + (HIGH - LOW) * (0, 0.05, 0.05)
        places = corners + rng.uniform(0.0, 1.0, (2, 3)) * half
        self._balls = dict(zip(COLOURS, rng.permutation(places)))
        self._goal = self._balls[task.removeprefix("reach-")]
        self._position, self._gripper = START.copy(), 1.0
        self._breaks, self._steps = variation == 1, 0
        return self._observe(True), INSTRUCTIONS[task][rng.integers(len(INSTRUCTIONS[task]))]

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """See Env.step; it never ends an episode by itself."""
        action = check_action(action)
        self._running()
        self._steps += 1
        if self._breaks and self._steps == 3:
            raise EnvCrashError("variation 1 of the dummy simulator broke at its third step, as it always does")
        target = action[:3]
        distance = float(np.linalg.norm(target))
        if distance > REACH_METRES:
            raise IKError(
                f"target {np.round(target, 3)} is {distance:.2f} m away; the point reaches {REACH_METRES:.2f} m"
            )
        way = target - self._position
        length = np.linalg.norm(way)
        if length > 0:
            self._position = self._position + way * min(1.0, METRES_PER_STEP * self._frame_skip / length)
        self._gripper = action[7]
        left = float(np.linalg.norm(self._position - self._goal))
        return Step(self._observe(render), left < SUCCESS_METRES, False, {"metres_left": left})

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Env.render: discs on grey, the point a white cross as wide as its gripper is open; near covers far."""
        self._check_camera(camera)
        self._running()
        right, up = AXES[camera]
        depth = ({0, 1, 2} - {right, up}).pop()
        image = np.full((size, size, 3), 60, np.uint8)
        pixels = (np.arange(size) + 0.5) / size
        u = LOW[right] + pixels[None, :] * (HIGH[right] - LOW[right])
        v = HIGH[up] - pixels[:, None] * (HIGH[up] - LOW[up])
        nearer = 1 if camera == "above" else -1  # seen from above, or from the low side of the axis that is not shown
        for colour, ball in sorted(self._balls.items(), key=lambda item: nearer * item[1][depth]):
            image[(u - ball[right]) ** 2 + (v - ball[up]) ** 2 < 0.03**2] = COLOURS[colour]
        du, dv = np.abs(u - self._position[right]), np.abs(v - self._position[up])
        arm, thick = 0.02 + 0.02 * self._gripper, max(0.006, 0.5 * (HIGH[right] - LOW[right]) / size)
        image[((du < arm) & (dv < thick)) | ((dv < 0.03) & (du < thick))] = 255
        return image

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """See Env.project; views are without perspective."""
        self._check_camera(camera)
        right, up = AXES[camera]
        shares = (np.asarray(points) - LOW) / (HIGH - LOW)
        return np.stack([shares[:, right], 1.0 - shares[:, up]], axis=1)

    def close(self) -> None:
        """See Env.close."""
        self._balls = None

    def instructions(self, task: str) -> tuple[str, ...]:
        """Returns every paraphrase of what is asked in ``task``, the plainest first."""
        self.check_task(task)
        return INSTRUCTIONS[task]

    def _observe(self, render: bool) -> EnvObservation:
        images = {c: self.render(c, self._image_size) for c in self._cameras} if render else {}
        return EnvObservation(images, np.append(self._position, self._gripper).astype(np.float32))

    def _running(self) -> None:
        if self._balls is None:
            raise ValueError("no episode is running; call reset(task, variation, seed) first")

    @staticmethod
    def check_task(task: str) -> None:
        """See Env.check_task."""
        check_task_name(task, tuple(INSTRUCTIONS), "dummy")

    def _check_camera(self, camera: str) -> None:
        if camera not in AXES:
            raise ValueError(f"unknown camera {camera!r} of dummy; expected one of {', '.join(AXES)}")
