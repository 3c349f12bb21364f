"""A rollout worker with the dummy simulator dressed as RLBench: its tasks, cameras and state; started as a script."""

import dataclasses

import numpy as np

from drifting_vla_jax.core import cli
from drifting_vla_jax.core.end_effector import STATE_NAMES, make_state
from drifting_vla_jax.envs import base as env
from drifting_vla_jax.envs import dummy, registry
from drifting_vla_jax.rollout import worker

DISGUISE = {"open_drawer": "reach-red", "close_jar": "reach-blue"}
OFFSET = np.array([0.0, 0.0, 1.0])  # RLBench's table is higher than the dummy's


class Disguised(dummy.Dummy):
    """The state as envs/rlbench/env.py gives it: pose and gripper, the hand pointing down."""

    info = dataclasses.replace(dummy.Dummy.info, tasks=tuple(DISGUISE), state_names=STATE_NAMES)

    def __init__(self, cameras, image_size, frame_skip):
        self._views = dict(zip(cameras, ("front", "side", "above")))
        super().__init__(tuple(self._views.values()), image_size, frame_skip)

    def check_task(self, task):
        env.check_task_name(task, (*DISGUISE, *DISGUISE.values()), "dressed")  # the dummy asks about its own

    def reset(self, task, variation, seed):
        observation, _ = super().reset(DISGUISE[task], variation, seed)
        return self._dressed(observation), task.replace("_", " ")

    def step(self, action, render=True):
        action = np.concatenate([action[:3] - OFFSET, action[3:]])
        step = super().step(action, render)
        return dataclasses.replace(step, observation=self._dressed(step.observation))

    def _dressed(self, seen):
        images = {camera: seen.images[view] for camera, view in self._views.items() if view in seen.images}
        pose = np.concatenate([seen.state[:3] + OFFSET, [1, 0, 0, 0]])
        return env.EnvObservation(images, make_state(pose, seen.state[3]))


if __name__ == "__main__":
    registry.ENVIRONMENTS["dressed"] = "__main__:Disguised"
    cli.run(worker.main)
