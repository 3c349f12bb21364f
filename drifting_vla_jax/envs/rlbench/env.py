"""RLBench (CoppeliaSim, a Franka Panda on a table) behind the project's interface.

    state    float32 [10]  position, orientation and opening of the gripper, see core/end_effector.py
    action   float32 [8]   see envs/base.py; the arm moves until it is there (control.py), then the gripper opens or
             closes: above 0.5 it opens
    views    left_shoulder right_shoulder overhead wrist front

An action is carried out to its end, so simulator steps (20 Hz) per action vary and none is skipped: ``frame_skip`` is 1. The
scene is a function of (task, variation, seed): numpy's global generator, which lays it out, is seeded with them. The planner
inside CoppeliaSim has a generator of its own that nobody can seed, so that two runs of one episode may differ.

With ``demos``, a folder of stored episodes, the seed is the number of one, and the episode starts as that one did. RLBench's
own reset_to_demo is not used: stepjam's cannot start PerAct's episodes, and both unpickle whatever a file says.
"""

from __future__ import annotations

import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np

from drifting_vla_jax.core.end_effector import HZ, STATE_NAMES, make_state
from drifting_vla_jax.core.ranges import Choice, Flag
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.envs.base import EnvCrashError, EnvError, EnvObservation, Step, check_action, check_task_name
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.envs.rlbench import demos as rlbench_demos
from drifting_vla_jax.envs.rlbench import installation
from drifting_vla_jax.envs.rlbench.control import CONTROLS, make_control
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS, ONLY_PERACT, SENSORS, TASKS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """config.env.rlbench.

    Attributes:
      control: how a target is reached, see control.py.
      headless: without CoppeliaSim's window; an X display it needs all the same.
    """

    control: Annotated[str, Choice(CONTROLS), Option(CONTROLS[0], "rlbench: how a target is reached")]
    headless: Annotated[bool, Flag(), Option(True, "rlbench: without the simulator's window", identity=False)]


class RLBench:
    """See the module; one simulator, launched here, for all tasks.

    Args:
      cameras: views to render into observations, of ``CAMERAS``; the others are not rendered.
      image_size: height and width of a view, pixels.
      frame_skip: 1.
      settings: how targets are reached, and whether there is a window.
      demos: folder of stored episodes to start from; empty: scenes are laid out by seed.

    Raises:
      ValueError: unknown camera or control, or a size or skip that cannot be.
      ModuleNotFoundError, ImportError, EnvError: there is no simulator; the message says how to get one.
    """

    info = EnvInfo(
        title="RLBench",
        tasks=TASKS,
        cameras=CAMERAS,
        state_names=STATE_NAMES,
        simulator_hz=HZ,
        skips_steps=False,
        fixed_state=True,
        extra="rlbench",
        stored=rlbench_demos,
    )
    Settings = Settings
    control_hz = HZ

    def __init__(
        self,
        cameras: tuple[str, ...],
        image_size: int,
        frame_skip: int,
        settings: Settings,
        demos: str = "",
    ):
        for camera in cameras:
            self._check_camera(camera)
        if image_size < 1:
            raise ValueError(f"image_size is {image_size}; expected at least 1 pixel")
        if frame_skip != 1:
            raise ValueError(f"frame_skip is {frame_skip}; RLBench carries out every target to its end, expected 1")
        if demos and not Path(demos).is_dir():
            raise ValueError(f"demos is {demos!r}, which is no folder; expected a split such as data/rlbench/test")
        self._cameras, self._image_size = tuple(cameras), image_size
        self._demos, self._headless = demos, settings.headless
        self._install = installation.find()
        self._control = make_control(self._install, settings.control)
        missing = [task for task in ONLY_PERACT if task not in self._install.tasks]
        self.tasks = (*(t for t in TASKS if t not in missing), *(t for t in self._install.tasks if t not in TASKS))
        self._environment: Any = None
        self._task: tuple[str, Any] | None = None  # name, RLBench's TaskEnvironment
        self._ready = False
        self._launch()

    @property
    def fork(self) -> str:
        """Whose RLBench this is, "stepjam" or "peract", by behaviour."""
        return self._install.fork

    def reset(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """See Env.reset; the instruction is the first of RLBench's wordings."""
        self.check_task(task)
        self._ready = False
        stored = rlbench_demos.load(Path(self._demos), task, seed) if self._demos else None
        if stored and stored.variation != variation:
            raise ValueError(f"{stored.folder} is of variation {stored.variation}; variation {variation} was asked for")
        try:
            environment = self._open(task)
            count = environment.variation_count()
            if not 0 <= variation < count:  # RLBench itself takes -1 for one
                raise ValueError(f"unknown variation {variation} of {task}; expected 0 .. {count - 1}")
            environment.set_variation(variation)
            self._show(True)
            if stored:
                np.random.set_state(stored.random_state)
                descriptions, seen = self._reset_to(environment, stored)
            else:
                _seed_everything(task, variation, seed)
                descriptions, seen = environment.reset()
        except self._install.crashes as error:
            raise EnvCrashError(f"{task} variation {variation} seed {seed} could not be laid out: {error}") from error
        if stored and stored.descriptions and descriptions[0] != stored.descriptions[0]:
            logger.warning(
                "%s was recorded as %r and starts as %r here: another version of RLBench, maybe another scene",
                *(stored.folder, stored.descriptions[0], descriptions[0]),
            )
        self._ready = True
        return self._observe(seen), str(descriptions[0])

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """See Env.step.

        ``info["events"]``: what was done to the action, see control.py; ``info["clipped_metres"]``. ``done``: the task
        was spoilt. An episode that has succeeded may go on.
        """
        action = check_action(action)
        if not self._ready:
            raise ValueError("no episode is running; call reset(task, variation, seed) first")
        if self._install.action_width == 9:
            action = np.append(action, 1.0)  # collisions are ignored, as on the other fork
        self._show(render)
        try:
            seen, _, terminate = self._task[1].step(action)
            # Not from the reward, which some tasks of PerAct's fork shape.
            success = bool(self._environment._scene.task.success()[0])
        except EnvError:
            raise
        except self._install.crashes as error:
            raise EnvCrashError(f"{self._task[0]}: {type(error).__name__}: {error}") from error
        info = {"events": tuple(self._control.events), "clipped_metres": self._control.clipped}
        return Step(self._observe(seen), success, bool(terminate) and not success, info)

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Env.render."""
        self._check_camera(camera)
        if not self._ready:
            raise ValueError("no episode is running; call reset(task, variation, seed) first")
        try:
            sensor = self._install.vision_sensor.VisionSensor(SENSORS[camera])
            sensor.set_resolution([size, size])
            try:
                sensor.handle_explicitly()
                picture = sensor.capture_rgb()
            finally:
                sensor.set_resolution([self._image_size, self._image_size])
        except self._install.crashes as error:
            raise EnvCrashError(f"camera {camera}: {error}") from error
        return (picture * 255.0).astype(np.uint8)

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """See Env.project; RLBench's cameras look along +z and their focal lengths are negative."""
        self._check_camera(camera)
        try:
            sensor = self._install.vision_sensor.VisionSensor(SENSORS[camera])
            to_world, inner = sensor.get_matrix(), sensor.get_intrinsic_matrix()
            resolution = np.array(sensor.get_resolution())
        except self._install.crashes as error:
            raise EnvCrashError(f"camera {camera}: {error}") from error
        seen = (np.asarray(points) - to_world[:3, 3]) @ to_world[:3, :3]
        depth = np.where(seen[:, 2:] > 0, seen[:, 2:], np.nan)
        return ((seen / depth) @ inner.T)[:, :2] / resolution

    def close(self) -> None:
        """See Env.close."""
        environment, self._environment, self._task, self._ready = self._environment, None, None, False
        if environment is None:
            return
        try:
            environment.shutdown()
        except self._install.crashes as error:  # it is given up anyway, often because it failed
            logger.warning("RLBench did not shut down in order: %s", error)

    def check_task(self, task: str) -> None:
        """See Env.check_task."""
        if task in ONLY_PERACT and task not in self.tasks:
            raise ValueError(
                f"task {task!r} is not in the installed RLBench ({self.fork}'s); only PerAct's fork has it: "
                f"pip install --no-deps '{installation.FORKS['peract']}'"
            )
        check_task_name(task, self.tasks, "rlbench")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        config, environments = self._install.observation_config, self._install.environment
        views = {f"{view}_camera": self._view() for view in CAMERAS}
        self._seen = config.ObservationConfig(**views)
        self._seen.set_all_low_dim(False)
        self._seen.gripper_pose = self._seen.gripper_open = True
        self._environment = environments.Environment(self._control, obs_config=self._seen, headless=self._headless)
        folder = os.getcwd()
        try:
            self._environment.launch()  # views that are on now can be rendered later
        except self._install.crashes as error:
            raise EnvCrashError(f"CoppeliaSim did not start: {error}. {installation.HELP}") from error
        finally:
            os.chdir(folder)  # PyRep works in the simulator's folder meanwhile, and stays there if it fails

    def _view(self) -> Any:
        size = (self._image_size, self._image_size)
        return self._install.observation_config.CameraConfig(
            rgb=True, depth=False, point_cloud=False, mask=False, image_size=size
        )

    def _show(self, render: bool) -> None:
        """What the next observation renders: the cameras asked for, or nothing."""
        for view in CAMERAS:
            getattr(self._seen, f"{view}_camera").rgb = render and view in self._cameras

    def _open(self, task: str) -> Any:
        """RLBench's environment of a task, loaded if it is not the present one."""
        if self._environment is None:
            self._launch()
        if self._task is None or self._task[0] != task:
            self._task = None  # if loading fails, there is none
            self._task = task, self._environment.get_task(self._install.task_class(task))
        return self._task[1]

    def _reset_to(self, environment: Any, stored: rlbench_demos.StoredEpisode) -> tuple[list[str], Any]:
        """Resets as at the recording; stepjam's RLBench has to be told how many layouts were thrown away."""
        if self.fork == "stepjam" and stored.reset_attempts is not None:
            return environment.reset(SimpleNamespace(num_reset_attempts=stored.reset_attempts))
        return environment.reset()

    def _observe(self, seen: Any) -> EnvObservation:
        images = {}
        for camera in self._cameras:
            picture = getattr(seen, f"{camera}_rgb")
            if picture is not None:
                images[camera] = np.ascontiguousarray(picture)
        return EnvObservation(images, make_state(seen.gripper_pose, seen.gripper_open))

    def _check_camera(self, camera: str) -> None:
        if camera not in CAMERAS:
            raise ValueError(f"unknown camera {camera!r} of rlbench; expected one of {', '.join(CAMERAS)}")


def _seed_everything(task: str, variation: int, seed: int) -> None:
    """RLBench lays out scenes with the global generators of numpy and, in one task, of Python."""
    words = np.random.SeedSequence([abs(seed), int(seed < 0), variation, *task.encode()]).generate_state(8)
    np.random.seed(words)
    random.seed(words.tobytes())
