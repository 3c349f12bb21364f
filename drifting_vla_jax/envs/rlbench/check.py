"""Starts RLBench and renders one frame of every view: does the simulator work here?

    python -m drifting_vla_jax.envs.rlbench.check

Exit code 0, or 1 and a line that says what is missing. Docker's entrypoint asks it before anything else runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from drifting_vla_jax.core import cli
from drifting_vla_jax.envs.base import EnvCrashError
from drifting_vla_jax.envs.registry import make
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS

TASK, SIZE = "reach_target", 128  # the one task with nothing to load but three spheres


def check() -> str:
    """Returns what was found, in a line; raises EnvError or ImportError saying why there is no picture."""
    env = make("rlbench", cameras=CAMERAS, image_size=SIZE, frame_skip=1)
    try:
        observation, instruction = env.reset(TASK, 0, 0)
        for view, image in observation.images.items():
            if image.std() < 1:
                raise EnvCrashError(f"view {view} is one colour: the X display has no OpenGL (libgl1-mesa-dri, GLX)")
        return f"RLBench ({env.fork}'s) renders {len(observation.images)} views of {instruction!r}"
    finally:
        env.close()


def main(_: Sequence[str]) -> None:
    """The process boundary."""
    print(check(), file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
