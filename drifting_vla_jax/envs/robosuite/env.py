"""robosuite's Franka Panda (MuJoCo, five tasks) behind the project's interface: absolute poses in, camera images out.

    state    float32 [10] x y z of the grip (metres, world), where its x and its y axis point, opening (0 closed .. 1 open)
    action   float32 [8]  see envs/base.py; one action lasts ``frame_skip`` simulator steps of 1/500 s (25: 20 Hz)

The pose is that of the point between the fingertips: z points out of the hand, the fingers open along x. Scenes and the
test of success are robosuite's own, read from its environment objects; the arm is driven by ``robosuite_control`` and
pictures are drawn by ``mujoco_rendering``: robosuite's controllers and its renderer do not run.

The scene is a function of (task, seed) alone, whatever ran before.
"""

from __future__ import annotations

import logging
import os

import numpy as np

from drifting_vla_jax.core.end_effector import STATE_NAMES, make_action, make_state
from drifting_vla_jax.envs.base import (
    EnvCrashError,
    EnvObservation,
    Step,
    check_action,
    check_task_name,
    random_generator,
)
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.envs.mujoco_rendering import OffscreenRenderer, choose_backend
from drifting_vla_jax.envs.robosuite.controller import PoseController
from drifting_vla_jax.envs.robosuite.experts import EXPERTS, Scene
from drifting_vla_jax.envs.robosuite.tasks import CLASSES, INSTRUCTIONS

SIMULATOR_HZ = 500
CONTROL_EVERY = 2  # simulator steps for which the motors keep a torque: 250 Hz
SECONDS = 20.0  # of simulated time, after which an episode is done
SETTLING = 150  # simulator steps that objects are given to come to rest before an episode starts
INSTALL = "pip install 'drifting-vla-jax[robosuite]' && pip install --no-deps robosuite==1.5.2"

ARM = "robot0_joint{}", "robot0_torq_j{}"
FINGERS = "gripper0_right_finger_joint1", "gripper0_right_finger_joint2"
GRIP = "gripper0_right_grip_site"
FINGER_METRES = 0.04  # that each finger travels

# robosuite's names of its cameras by ours. The first two are what most policies for these tasks see.
CAMERAS = {
    "agentview": "agentview",
    "wrist": "robot0_eye_in_hand",
    **{name: name for name in ("frontview", "sideview", "birdview")},
}

# How far the hand may be moved and turned before a demonstration starts (metres: low, high; degrees), and how long it takes.
DISPLACEMENT_LOW, DISPLACEMENT_HIGH = (-0.08, -0.12, -0.06), (0.06, 0.12, 0.06)
DISPLACEMENT_TURN, DISPLACEMENT_TILT = 30.0, 5.0
DISPLACEMENT_SECONDS = 0.8

NOISE_METRES = 0.01  # standard deviation of the noise on a demonstration's targets where action_noise is 1: position,
NOISE_DEGREES = 3.0  # and rotation about each axis


class Robosuite:
    """Five tasks in one object; the simulator of the current task is kept, one at a time.

    Args:
      cameras: views rendered into observations, of ``CAMERAS``. May be empty.
      image_size: height and width of a view, pixels.
      frame_skip: simulator steps per control step.

    Raises:
      ValueError: unknown camera, or a size or skip below 1.
      ModuleNotFoundError: robosuite is not installed.
      RendererMissingError: this machine cannot draw.
    """

    info = EnvInfo(
        title="robosuite",
        tasks=tuple(CLASSES),
        cameras=tuple(CAMERAS),
        state_names=STATE_NAMES,
        simulator_hz=SIMULATOR_HZ,
        fixed_state=True,
        extra="robosuite",
        packages=("robosuite", "mujoco"),
        build={"cameras": ("agentview", "wrist"), "image_size": 96, "frame_skip": 25, "action_noise": 0.2},
    )

    def __init__(self, cameras: tuple[str, ...], image_size: int, frame_skip: int):
        for camera in cameras:
            self._check_camera(camera)
        if image_size < 1 or frame_skip < 1:
            raise ValueError(f"image_size {image_size} and frame_skip {frame_skip} must be at least 1")
        _import_robosuite()
        self.control_hz = SIMULATOR_HZ / frame_skip
        self._cameras, self._image_size, self._frame_skip = tuple(cameras), image_size, frame_skip
        self._task: str | None = None
        self._sim = None
        self._pictures: OffscreenRenderer | None = None  # of the task's model

    # --- the Env protocol ---------------------------------------------------------------------------------------------

    def reset(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See Env.reset. There is one variation per task, 0."""
        self._reset_scene(task, variation, seed)
        return self.observe(), self._instruction(seed)

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """See Env.step. ``done`` after ``SECONDS``."""
        success, done = self.advance(check_action(action))
        return Step(self.observe(render), success, done)

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Env.render."""
        self._check_camera(camera)
        self._running()
        return self._pictures.render(camera, size, self._data, CAMERAS[camera])

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """See Env.project."""
        self._check_camera(camera)
        self._running()
        return self._pictures.project(camera, self._data, points)

    def close(self) -> None:
        """See Env.close."""
        if self._sim is not None:
            self._pictures.close()
            self._sim.close()
        self._sim = self._task = self._pictures = None

    def instructions(self, task: str) -> tuple[str, ...]:
        """Returns every paraphrase of what is asked in ``task``, the plainest first."""
        self.check_task(task)
        return INSTRUCTIONS[task]

    def observe(self, render: bool = True) -> EnvObservation:
        """Returns what a policy may see now."""
        self._running()
        size = self._image_size
        images = {c: self.render(c, size) for c in self._cameras} if render else {}
        fingers = np.abs([self._data.joint(name).qpos[0] for name in FINGERS])
        opening = np.clip(np.mean(fingers) / FINGER_METRES, 0.0, 1.0)
        return EnvObservation(images, make_state(self._grip(), opening))

    def pose(self) -> np.ndarray:
        """Returns the grip's pose, float32 [7]: x y z (metres, world), qx qy qz qw (w >= 0)."""
        return make_action(self._grip(), 0.0)[:7]

    @staticmethod
    def check_task(task: str) -> None:
        """See Env.check_task."""
        check_task_name(task, tuple(CLASSES), "robosuite")

    # --- privileged: for making demonstrations, never for a policy (see ScriptedEnv) ----------------------------------

    def reset_displaced(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See ScriptedEnv.reset_displaced: the hand is moved, turned about its axis and tilted a little."""
        self._reset_scene(task, variation, seed)
        rng = random_generator(seed, "displacement")
        goal = self._grip()
        goal[:3] += rng.uniform(DISPLACEMENT_LOW, DISPLACEMENT_HIGH)
        tilt = np.radians([DISPLACEMENT_TILT, DISPLACEMENT_TILT, DISPLACEMENT_TURN])
        goal[3:] = turned(goal[3:], tilt * rng.uniform(-1, 1, 3))
        for _ in range(round(DISPLACEMENT_SECONDS * self.control_hz)):
            self.advance(self._scene.step_toward(goal[:3], goal[3:], 1.0))
        self._steps = 0
        return self.observe(), self._instruction(seed)

    def target(self) -> np.ndarray:
        """See ScriptedEnv.target: the pose; this controller's errors are so small that nothing else would be seen of it."""
        return self.pose()

    def act(self, noise: np.random.Generator, scale: float, rest: bool, pace: float = 1.0) -> tuple[bool, bool, float]:
        """See ScriptedEnv.act. ``scale`` is in centimetres, and as many times 3 degrees about each axis."""
        if not rest:
            self._scene.pace = pace
            target = next(self._expert)
            self._held = target
            target = target.copy()
            target[:3] += noise.normal(0.0, scale * NOISE_METRES, 3)
            target[3:7] = turned(target[3:7], noise.normal(0.0, scale * np.radians(NOISE_DEGREES), 3))
        else:
            target = self._held
        success, done = self.advance(target)
        return success, done, float(target[7])

    def advance(self, action: np.ndarray) -> tuple[bool, bool]:
        """One control step toward a checked action, float64 [8]; returns (success, done)."""
        import mujoco

        self._running()
        if self._steps >= SECONDS * SIMULATOR_HZ:
            raise ValueError(f"the episode ended after {SECONDS:g} s; reset before stepping on")
        model, data = self._model, self._data
        x, y, z, w = action[3:7]
        self._controller.aim(action[:3], np.array([w, x, y, z]), self._frame_skip / SIMULATOR_HZ)
        data.ctrl[self._fingers] = np.array([1.0, -1.0]) * FINGER_METRES * action[7]
        try:
            for k in range(self._frame_skip):
                if k % CONTROL_EVERY == 0:
                    self._controller.step(min(k + CONTROL_EVERY, self._frame_skip) / SIMULATOR_HZ)
                mujoco.mj_step2(model, data)
                mujoco.mj_step1(model, data)  # so that what is read, drawn and controlled is always of now
        except mujoco.FatalError as error:
            raise EnvCrashError(f"MuJoCo failed in {self._task}: {error}") from error
        bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
        if any(data.warning[int(w)].number for w in bad):
            raise EnvCrashError(f"the simulation of {self._task} became unstable at step {self._steps}")
        self._steps += self._frame_skip
        return bool(self._sim._check_success()), self._steps >= SECONDS * SIMULATOR_HZ

    # --- inside -------------------------------------------------------------------------------------------------------

    def _running(self) -> None:
        if self._sim is None:
            raise ValueError("no episode is running; call reset(task, variation, seed) first")

    def _grip(self) -> np.ndarray:
        """Returns the grip's pose, float64 [7], quaternion x y z w."""
        position, (w, x, y, z) = self._controller.pose()
        return np.array([*position, x, y, z, w])

    def _instruction(self, seed: int) -> str:
        phrases = INSTRUCTIONS[self._task]
        return phrases[random_generator(seed, "instruction").integers(len(phrases))]

    def _check_camera(self, camera: str) -> None:
        if camera not in CAMERAS:
            raise ValueError(f"unknown camera {camera!r} of robosuite; expected one of {', '.join(CAMERAS)}")

    def _reset_scene(self, task: str, variation: int, seed: int) -> None:
        import mujoco

        self.check_task(task)
        if variation != 0:
            raise ValueError(f"unknown variation {variation} of {task}; robosuite has only variation 0")
        if task != self._task:
            self._load(task)
        rng = random_generator(seed, "scene")
        sampler = self._sim.placement_initializer
        for owner in (self._sim, sampler, *getattr(sampler, "samplers", {}).values()):
            owner.rng = rng
        self._sim.reset()
        model, data = self._model, self._data
        for name, side in zip(FINGERS, (1.0, -1.0)):
            data.joint(name).qpos[0] = side * FINGER_METRES
        mujoco.mj_forward(model, data)
        self._controller.rest()
        self._steps = 0
        start = np.append(self._grip(), 1.0)
        for _ in range(-(-SETTLING // self._frame_skip)):
            self.advance(start)
        self._steps = 0
        self._scene = Scene(data, self._grip, 1.0 / self.control_hz)
        self._expert, self._held = EXPERTS[task](self._scene), None

    def _load(self, task: str) -> None:
        from robosuite.environments.base import REGISTERED_ENVS

        self.close()
        self._sim = REGISTERED_ENVS[CLASSES[task]](
            robots="Panda",
            initialization_noise=None,
            use_camera_obs=False,
            has_renderer=False,
            has_offscreen_renderer=False,
            renderer="mujoco",
            hard_reset=False,  # sizes and colours stay; positions and rotations are drawn anew at every reset
            ignore_done=True,
            seed=0,
        )
        self._task, self._model, self._data = task, self._sim.sim.model._model, self._sim.sim.data._data
        joints, motors = ([pattern.format(k) for k in range(1, 8)] for pattern in ARM)
        self._pictures = OffscreenRenderer(self._model, collision_shapes=False)
        site = self._model.site(GRIP).id
        self._controller = PoseController(self._model, self._data, site, joints, motors)
        self._fingers = [self._model.joint(name).id for name in FINGERS]


def turned(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A quaternion x y z w, turned by a rotation vector (radians, in its own frame)."""
    import mujoco

    x, y, z, w = quaternion
    wxyz = np.array([w, x, y, z])
    mujoco.mju_quatIntegrate(wxyz, np.asarray(vector, np.float64), 1.0)
    return np.roll(wxyz, -1)


def _import_robosuite() -> None:
    """Imports robosuite, quietly and without its side effects.

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    backend = choose_backend()
    import mujoco  # noqa: F401  (reads MUJOCO_GL now, before robosuite writes its own choice there)

    # Compiling robosuite's helpers takes 3 s in every new process and wants to write beside them; they run once per reset.
    os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
    logging.getLogger("robosuite_logs").disabled = True  # it says at every start what of robosuite is not installed
    try:
        import robosuite  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; run `{INSTALL}`") from error
    os.environ["MUJOCO_GL"] = backend
