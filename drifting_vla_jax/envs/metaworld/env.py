"""Meta-World (50 table-top tasks, MuJoCo) behind the project's interface: absolute targets in, camera images out.

    state    float32 [4]  x y z of the hand body (metres, world) | gripper opening (0 closed .. 1 open)
    action   float32 [8]  see envs/base.py; one action lasts ``frame_skip`` simulator steps of 1/80 s

Meta-World itself is driven by displacements of a mocap body, at most 1 cm per simulator step and axis, that drags the
hand on a soft weld: the hand follows a moving mocap three steps late. The adapter turns an absolute target into such
displacements: it puts the mocap body ``LEAD`` times the hand's error ahead of the hand, which makes up for that delay
and presses in proportion against whatever is in the way,

    mocap -> hand + LEAD * (target - hand)

The hand never turns: an orientation target must be a unit quaternion, and cannot be followed. The orientation that is
reported is the constant one the hand is welded to; contact and motion bend it a few degrees away.

The scene is a function of (task, seed) alone, whatever ran before. Meta-World offers 50 fixed goals per task; here any
integer seed is its own goal.
"""

from __future__ import annotations

import difflib
import warnings
from typing import NamedTuple

import numpy as np

from drifting_vla_jax.envs.base import EnvCrashError, EnvObservation, Step, check_action, random_generator
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.envs.metaworld import perturbations as changes
from drifting_vla_jax.envs.metaworld.published import PUBLISHED
from drifting_vla_jax.envs.metaworld.tasks import DIFFICULTY, INSTRUCTIONS
from drifting_vla_jax.envs.mujoco_rendering import OffscreenRenderer, choose_backend

SIMULATOR_HZ = 80
METRES_PER_COMMAND = 0.01  # what a command of 1 moves the mocap body by, in one simulator step
# Of the adapter's controller, found by replaying demonstrations and by closed-loop success. It has no memory on purpose: an
# integral term replays better still, but winds up when a policy's targets move along with the hand.
LEAD = 5.0
LAG = 4.0  # simulator steps by which a moving hand trails the mocap body (4.4 to 5 at full speed)


# Where success is how far the fingertips, or what they hold, are from the goal. The experts bring the hand itself there, which
# leaves the fingertips 4 cm away of the 5 or 7 that count; told of a goal as much above, they bring those.
BY_FINGERTIPS = ("reach", "reach-wall", "pick-place", "pick-place-wall")


class View(NamedTuple):
    """A free camera: where it looks (metres, world), from how far, and from which side (degrees)."""

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float


# Checked by eye on all 50 tasks: object and gripper are both seen in at least one of the two in every task, and large.
# "top" looks down from beyond the table, so that the arm, which comes from the robot's side, hides neither.
VIEWS = {
    "top": View((0.0, 0.67, 0.1), 1.05, 270, -77),
    "zoom": View((0.0, 0.70, 0.12), 1.05, 130, -35),
}
STOCK_CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")

# The mocap body's orientation (w x y z) = (1, 0, 1, 0) / sqrt(2), as qx qy qz qw.
HAND_QUATERNION = (0.0, 0.5**0.5, 0.0, 0.5**0.5)

# How far the hand may be moved before a demonstration starts (metres: low, high) and in how many simulator steps.
DISPLACEMENT_LOW, DISPLACEMENT_HIGH = (-0.10, -0.06, -0.03), (0.10, 0.10, 0.10)
DISPLACEMENT_STEPS = 15

# What resetting a task writes into its model: put back before each reset, or the scene would depend on the one before.
_MODEL_ARRAYS = ("body_pos", "body_quat", "site_pos", "geom_pos")


class MetaWorld:
    """All 50 tasks in one object; the simulator of the current task is kept, one at a time (0.3 s to change task).

    Args:
      cameras: views rendered into observations: ``VIEWS``, or Meta-World's own by name. May be empty.
      image_size: height and width of a view, pixels.
      frame_skip: simulator steps per control step.
      settings: what differs from the scenes of demonstrations, see ``metaworld_changes``.

    Raises:
      ValueError: unknown camera, or a size or skip below 1.
      ModuleNotFoundError: Meta-World is not installed.
      RendererMissingError: this machine cannot draw.
    """

    info = EnvInfo(
        title="Meta-World",
        tasks=tuple(sorted(INSTRUCTIONS)),
        cameras=(*VIEWS, *STOCK_CAMERAS),
        state_names=("x", "y", "z", "gripper"),
        simulator_hz=SIMULATOR_HZ,
        extra="metaworld",
        packages=("metaworld", "mujoco"),
        build={"cameras": ("top", "zoom"), "image_size": 64, "frame_skip": 2, "action_noise": 0.4},
        task_groups=DIFFICULTY,
        perturbations=changes.PERTURBATIONS,
        published=PUBLISHED,
    )
    Settings = changes.Settings

    def __init__(
        self,
        cameras: tuple[str, ...],
        image_size: int,
        frame_skip: int,
        settings: changes.Settings = changes.UNCHANGED,
    ):
        for camera in cameras:
            self._check_camera(camera)
        if image_size < 1 or frame_skip < 1:
            raise ValueError(f"image_size {image_size} and frame_skip {frame_skip} must be at least 1")
        choose_backend()
        try:
            import metaworld.env_dict  # noqa: F401  (0.8 s and a simulator: only where it is used)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}; run `pip install 'drifting-vla-jax[metaworld]'`") from error
        # Meta-World's experts say at every start that their commands will be clipped.
        warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high", module="metaworld")
        self.control_hz = SIMULATOR_HZ / frame_skip
        self._cameras, self._image_size, self._frame_skip = tuple(cameras), image_size, frame_skip
        self._change, self._views = settings.change, dict(VIEWS)
        self._task: str | None = None
        self._sim = None
        self._pictures: OffscreenRenderer | None = None  # of the task's model

    # --- the Env protocol ---------------------------------------------------------------------------------------------

    def reset(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See Env.reset. Meta-World has one variation per task, 0."""
        self._reset_scene(task, variation, seed)
        return self.observe(), self._instruction(seed)

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """See Env.step. The orientation target is checked and ignored; ``done`` after 500 simulator steps."""
        action = check_action(action)
        grip = 1.0 - 2.0 * action[7]  # Meta-World: -1 opens, +1 closes
        for _ in range(self._frame_skip):
            success, done = self.advance(self.command_toward(action[:3], grip))
            if done:
                break
        return Step(self.observe(render), success, done)

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Env.render."""
        self._check_camera(camera)
        data = self._running().data
        return self._pictures.render(camera, size, data, self._camera(camera))

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """See Env.project."""
        self._check_camera(camera)
        data = self._running().data
        return self._pictures.project(camera, data, points)

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

    # --- privileged: for making demonstrations, never for a policy ----------------------------------------------------

    def reset_displaced(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See ScriptedEnv.reset_displaced."""
        self._reset_scene(task, variation, seed)
        goal = self._hand() + random_generator(seed, "displacement").uniform(DISPLACEMENT_LOW, DISPLACEMENT_HIGH)
        for _ in range(DISPLACEMENT_STEPS):
            self.advance(self.command_toward(goal, grip=-1.0))
        self._sim.curr_path_length = 0
        return self.observe(), self._instruction(seed)

    def act(self, noise: np.random.Generator, scale: float, rest: bool, pace: float = 1.0) -> tuple[bool, bool, float]:
        """See ScriptedEnv.act. ``scale`` is of the noise on each of dx dy dz (of -1 .. 1) at every simulator step."""
        if not rest:
            self._stay, self._grip = None, self.expert_command()[3]
        elif self._stay is None:
            self._stay = self.holding_target()
        for _ in range(self._frame_skip):
            if self._stay is not None:
                command = self.command_toward(self._stay, self._grip)[:3]
            else:
                command = pace * self.expert_command()[:3] + noise.normal(0.0, scale, 3)
            success, done = self.advance(np.append(np.clip(command, -1.0, 1.0), self._grip))
            if done:
                break
        return success, done, (1.0 - self._grip) / 2.0

    def expert_command(self) -> np.ndarray:
        """Privileged. Returns the scripted expert's command, float64 [4] in -1 .. 1: dx dy dz and gripper (+1 closes)."""
        self._running()
        observation = self._privileged.copy()  # some experts write into what they are given
        if self._task in BY_FINGERTIPS:
            observation[-3:] += self._hand() - self._sim.tcp_center
        return np.clip(np.asarray(self._expert.get_action(observation), np.float64), -1.0, 1.0)

    def command_toward(self, target: np.ndarray, grip: float) -> np.ndarray:
        """Returns the command, float64 [4], that moves the hand toward ``target`` (x y z) in the next simulator step;
        ``grip`` is -1 .. 1 (closed). The mocap body is put ``LEAD`` times the error ahead of the hand that it drags."""
        hand, mocap = self._hand(), self._running().data.mocap_pos[0]
        ahead = hand + LEAD * (target - hand)
        return np.append(np.clip((ahead - mocap) / METRES_PER_COMMAND, -1.0, 1.0), grip)

    def holding_target(self) -> np.ndarray:
        """Privileged. Returns the target, float64 [3], toward which the hand goes on pressing as it does now."""
        hand = self._hand()
        return hand + (self._running().data.mocap_pos[0] - hand) / LEAD

    def target(self) -> np.ndarray:
        """See ScriptedEnv.target: the hand's pose, beyond it 1 / LEAD of how far the mocap body is ahead, but for what a hand
        that moves trails by. On the way that is where the hand is; at rest it is ``holding_target``."""
        hand = self._hand()
        trailing = LAG * (hand - self._before)
        pressing = self._running().data.mocap_pos[0] - hand - trailing
        return np.concatenate([hand + pressing / LEAD, HAND_QUATERNION]).astype(np.float32)

    def advance(self, command: np.ndarray) -> tuple[bool, bool]:
        """Privileged. One simulator step with Meta-World's own command, float [4]; returns (success, done)."""
        import mujoco

        sim = self._running()
        if sim.curr_path_length >= sim.max_path_length:
            raise ValueError(f"the episode ended after {sim.max_path_length} simulator steps; reset before stepping on")
        self._before = self._hand()
        try:
            self._privileged, _, _, done, info = sim.step(command)
        except mujoco.FatalError as error:
            raise EnvCrashError(f"MuJoCo failed in {self._task}: {error}") from error
        bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
        if any(sim.data.warning[int(w)].number for w in bad):
            raise EnvCrashError(f"the simulation of {self._task} became unstable at step {sim.curr_path_length}")
        return bool(info["success"]), bool(done)

    def observe(self, render: bool = True) -> EnvObservation:
        """Returns what a policy may see now."""
        size = self._image_size
        images = {c: self.render(c, size) for c in self._cameras} if render else {}
        left, right = (self._running().data.body(name).xpos for name in ("leftclaw", "rightclaw"))
        opening = np.clip(np.linalg.norm(left - right) / 0.1, 0.0, 1.0)  # the fingers are at most 10 cm apart
        return EnvObservation(images, np.append(self._hand(), opening).astype(np.float32))

    def pose(self) -> np.ndarray:
        """Returns the hand's pose, float32 [7]: x y z (metres, world) and its constant orientation qx qy qz qw."""
        return np.concatenate([self._hand(), HAND_QUATERNION]).astype(np.float32)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _running(self):
        if self._sim is None:
            raise ValueError("no episode is running; call reset(task, variation, seed) first")
        return self._sim

    def _hand(self) -> np.ndarray:
        return self._running().data.body("hand").xpos.copy()

    def _instruction(self, seed: int) -> str:
        if self._change == "words":
            return changes.UNSEEN[self._task]
        phrases = INSTRUCTIONS[self._task]
        return phrases[random_generator(seed, "instruction").integers(len(phrases))]

    def _check_camera(self, camera: str) -> None:
        if camera not in self.info.cameras:
            raise ValueError(f"unknown camera {camera!r} of metaworld; expected one of {', '.join(self.info.cameras)}")

    @staticmethod
    def check_task(task: str) -> None:
        """Raises ValueError, offering the nearest name, unless Meta-World has this task."""
        if task not in INSTRUCTIONS:
            near = difflib.get_close_matches(task, INSTRUCTIONS, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown task {task!r} of metaworld; did you mean {near!r}?")

    def _reset_scene(self, task: str, variation: int, seed: int) -> None:
        import mujoco

        self.check_task(task)
        if variation != 0:
            raise ValueError(f"unknown variation {variation} of {task}; metaworld has only variation 0")
        if task != self._task:
            self._load(task)
        sim = self._sim
        for array, value in self._pristine:
            array[:] = value
        mujoco.mj_resetData(sim.model, sim.data)
        sim.np_random = random_generator(seed, "scene")
        self._privileged, _ = sim.reset()
        mujoco.mj_forward(sim.model, sim.data)  # resetting moves bodies and sites last; nothing has been computed since
        self._expert, self._stay = self._expert_class(), None
        self._make_change(random_generator(seed, "change"))

    def _make_change(self, rng: np.random.Generator) -> None:
        if self._change == "camera":
            self._views = {name: View(*changes.moved(view, rng)) for name, view in VIEWS.items()}
        elif self._change == "light":
            changes.relight(self._sim.model, rng)
        elif self._change == "colour":
            changes.recolour(self._sim.model, rng)

    def _load(self, task: str) -> None:
        from metaworld.env_dict import ENV_CLS_MAP
        from metaworld.policies import ENV_POLICY_MAP

        self.close()
        sim = ENV_CLS_MAP[f"{task}-v3"]()
        # What Meta-World's own benchmarks set through a pickled task: goals from our generator, shown to the expert.
        sim._set_task_called, sim._freeze_rand_vec, sim.seeded_rand_vec = True, False, True
        sim._partially_observable = False
        del sim.sawyer_observation_space  # cached with the goal hidden
        self._sim, self._task, self._expert_class = sim, task, ENV_POLICY_MAP[f"{task}-v3"]
        self._pictures = OffscreenRenderer(sim.model)
        written = [*(getattr(sim.model, name) for name in _MODEL_ARRAYS), *changes.changed_arrays(sim.model)]
        self._pristine = [(array, array.copy()) for array in written]

    def _camera(self, name: str):
        """Returns what a renderer takes as camera: a free camera for one of ``VIEWS``, else the stock camera's name."""
        import mujoco

        if name not in self._views:
            return name
        camera = mujoco.MjvCamera()
        camera.lookat[:], camera.distance, camera.azimuth, camera.elevation = self._views[name]
        return camera
