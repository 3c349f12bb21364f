"""A policy server for the dummy simulator: sees the asked ball in two pictures and goes there. Run as a process: PORT."""

import re
import sys
import time

import numpy as np

from drifting_vla_jax.envs.dummy import COLOURS, HIGH, LOW
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol

SIZE, HORIZON = 48, 4


class SeeingPolicy:
    """Slow enough that a process can be killed while it waits for an answer."""

    batch_sizes = (1, 4)
    metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
        "cameras": ["front", "above"],
        "image_size": SIZE,
        "state_dim": 4,
        "horizon": HORIZON,
        "action_dim": 8,
        "prompts": ["reach the red ball"],
        "control_hz": 20.0,
        "frame_skip": 2,
        "environment": "dummy",
    }

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        time.sleep(0.01)
        return np.stack([self._chunk(o) for o in observations])

    def _chunk(self, observation):
        colour = re.search("red|blue", observation["prompt"])[0]
        x, z = _centre(observation["images"]["front"], colour, (0, 2))
        _, y = _centre(observation["images"]["above"], colour, (0, 1))
        # Half of all chunks go 3 cm to the side, by their seed: some episodes take longer, some fail.
        aside = 0.03 * (observation["seed"] % 2)
        return np.tile(np.array([x + aside, y, z, 0, 0, 0, 1, 1], np.float32), (HORIZON, 1))


def _centre(image, colour, axes):
    """Where a colour's pixels are, metres along the picture's two axes; the middle of the world if it is hidden."""
    rows, columns = np.nonzero((image == COLOURS[colour]).all(-1))
    if not len(rows):
        return (LOW + HIGH)[list(axes)] / 2
    right, up = axes
    u, v = (columns.mean() + 0.5) / SIZE, (rows.mean() + 0.5) / SIZE
    return LOW[right] + u * (HIGH - LOW)[right], HIGH[up] - v * (HIGH - LOW)[up]


if __name__ == "__main__":
    PolicyServer(SeeingPolicy(), port=int(sys.argv[1]), batch_deadline_ms=2.0).serve_forever()
