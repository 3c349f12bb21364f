"""A policy that really looks: it finds the ball of the asked colour in two views of the dummy simulator and goes there.

It knows nothing but what comes over the wire. Asked for blue, it goes the other way, and fails.
"""

import numpy as np

from drifting_vla_jax.envs.dummy import AXES, COLOURS, HIGH, LOW, Dummy
from drifting_vla_jax.wire import protocol

SIZE, HORIZON = 32, 4


class LookingPolicy:
    """See the module; ``asked`` counts observations."""

    batch_sizes = (1,)

    def __init__(self, step: float = 0.02, **metadata):
        self.step, self.asked = step, 0
        self.metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
            "cameras": ["front", "above"],
            "image_size": SIZE,
            "state_dim": 4,
            "state_names": list(Dummy.info.state_names),
            "horizon": HORIZON,
            "action_dim": 8,
            "prompts": ["reach the red ball"],
            "control_hz": 20.0,
            "frame_skip": 2,
            "objective": "drifting",
            "config_hash": "abc",
            **metadata,
        }

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        self.asked += len(observations)
        return np.stack([self._chunk(o) for o in observations])

    def _chunk(self, observation):
        goal = np.full(3, np.nan)
        for camera in ("front", "above"):
            image = observation["images"][camera].astype(int)
            rows, columns = np.nonzero(np.abs(image - COLOURS["red"]).sum(-1) < 30)
            if len(rows):
                right, up = AXES[camera]
                goal[right] = LOW[right] + (columns.mean() + 0.5) / SIZE * (HIGH[right] - LOW[right])
                goal[up] = HIGH[up] - (rows.mean() + 0.5) / SIZE * (HIGH[up] - LOW[up])
        hand = observation["state"][:3].astype(float)
        goal = np.where(np.isfinite(goal), goal, hand)
        if "blue" in observation["prompt"]:
            goal = np.array([0.0, 0.6, 0.0])
        path = []
        for _ in range(HORIZON):
            way = goal - hand
            hand = hand + way * min(1.0, self.step / max(np.linalg.norm(way), 1e-9))
            path.append([*hand, 0, 0, 0, 1, 1])
        return np.array(path, np.float32)
