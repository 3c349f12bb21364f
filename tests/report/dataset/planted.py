"""Clean demonstrations as arrays, for checks to be silent on and for faults to be planted in.

Two tasks of six episodes, 40 steps at 20 Hz: the hand walks 40 cm on a slightly bent line at 1 cm per step, turns a
little, and closes the gripper half way. The action at t is the state at t + 1; the state's gripper follows the action's.
"""

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from drifting_vla_jax.report.dataset.checks.finding import Facts
from drifting_vla_jax.report.dataset.checks.registry import run_checks
from drifting_vla_jax.report.dataset.images import Seen
from drifting_vla_jax.report.dataset.reader import Demonstration

STEPS, HZ = 40, 20.0
TASKS = ("push", "pull")
NAMES = ("x", "y", "z", "gripper")


def clean() -> list[Demonstration]:
    """Episodes 0 .. 9 of train and 0 .. 1 of val, the tasks in turn."""
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(12):
        task = number % 2
        along = np.linspace(0, 0.4, STEPS + 1)
        path = np.stack([along - 0.2, 0.05 * np.sin(4 * along) + 0.5, 0.2 + 0.1 * task + 0 * along], axis=1)
        path += rng.uniform(-0.02, 0.02, 3)
        axis = np.array([0.4, 0.3, -0.5])
        quaternion = Rotation.from_rotvec(np.linspace(0.8, 1.2, STEPS + 1)[:, None] * axis).as_quat(canonical=True)
        opening = (np.arange(STEPS + 1) < STEPS // 2).astype(float)
        split, index = ("train", number) if number < 10 else ("val", number - 10)
        episodes.append(
            Demonstration(
                split=split,
                index=index,
                task=TASKS[task],
                variation=0,
                seed=number,
                instructions=(f"{TASKS[task]} it", f"please {TASKS[task]} the block"),
                state=np.concatenate([path[:-1], opening[:-1, None]], axis=1).astype(np.float32),
                actions=np.concatenate([path[1:], quaternion[1:], opening[1:, None]], axis=1).astype(np.float32),
                first=number * STEPS if split == "train" else index * STEPS,
            )
        )
    return episodes


def changed(episode: Demonstration, fault) -> Demonstration:
    """A copy of the episode whose arrays ``fault(state, actions)`` may change; what it returns replaces them."""
    state, actions = episode.state.copy(), episode.actions.copy()
    new = fault(state, actions)
    state, actions = new if new is not None else (state, actions)
    return replace(episode, state=state, actions=actions)


def seen(episodes) -> dict:
    """What is seen of images of which no two are alike."""
    return {
        e.key: {
            camera: Seen(tuple(f"{e.key}{camera}{t}".encode() for t in range(len(e))), {0: (90.0, 40.0)}, (), ())
            for camera in ("front", "side")
        }
        for e in episodes
    }


def found(episodes, pictures=None, names=NAMES) -> dict[str, list]:
    """{check's name: findings} of the checks that found something."""
    facts = Facts(HZ, names, seen(episodes) if pictures is None else pictures)
    return {check.name: findings for check, findings in run_checks(episodes, facts) if findings}
