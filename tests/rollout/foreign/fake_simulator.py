"""A simulator whose every outcome is known: success while the action's x is the seed's parity.

task    "reach"; "break": the process dies at seed 3 if the file $FAKE_BREAK exists, and hangs there, once, if $FAKE_HANG does
state   [seed % 2, steps]
"""

import os
import time

import numpy as np

from drifting_vla_jax.envs.base import EnvObservation, Step, check_action, check_task_name
from drifting_vla_jax.envs.info import EnvInfo


class FakeSimulator:
    """See the module."""

    info = EnvInfo("fake", tasks=("reach", "break"), state_names=("parity", "steps"))
    control_hz = 20.0

    def __init__(self, cameras, image_size, frame_skip):
        self._cameras, self._size = cameras, image_size

    def check_task(self, task):
        check_task_name(task, self.info.tasks, "fake")

    def reset(self, task, variation, seed):
        if task == "break" and seed == 3 and os.path.exists(os.environ.get("FAKE_BREAK", "")):
            os._exit(77)
        if task == "break" and seed == 3 and os.path.exists(os.environ.get("FAKE_HANG", "")):
            os.remove(os.environ["FAKE_HANG"])
            time.sleep(600)
        self._seed, self._steps = seed, 0
        return self._observe(True), f"{task} {seed}"

    def step(self, action, render=True):
        self._steps += 1
        success = round(float(check_action(action)[0])) == self._seed % 2
        return Step(self._observe(render), success, False)

    def project(self, camera, points):
        return np.full((len(points), 2), 0.5)

    def render(self, camera, size):
        return np.full((size, size, 3), 40 + self._steps, np.uint8)

    def close(self):
        pass

    def _observe(self, render):
        images = {camera: self.render(camera, self._size) for camera in self._cameras} if render else {}
        return EnvObservation(images, np.array([self._seed % 2, self._steps], np.float32))
