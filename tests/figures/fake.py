"""A made-up snapshot: plausible, the same every time, and every field of it can be replaced."""

import numpy as np
from scipy.spatial.transform import Rotation

from drifting_vla_jax.figures.inputs import FigureInputs


def fake_snapshot(b=16, g=8, h=8, n=12, v=2, side=32, patches=4, t=3, noise=0.3, step=500, **changes) -> FigureInputs:
    """Two tasks, experts of both a few centimetres apart, answers ``noise`` standard deviations round them."""
    rng = np.random.default_rng(0)
    task = np.arange(b) % 2
    target = 2.0 * (2 * task[:, None, None] - 1) * np.ones((b, h, 10)) + 0.3 * rng.standard_normal((b, 1, 10))
    samples = target[:, None] + noise * rng.standard_normal((b, g, h, 10))
    mask = np.ones((b, h, 10))
    mask[:, :, 7] = 0.0
    mask[-1, h // 2 :] = 0.0
    position = np.array([0.3, 0.0, 0.9]) + 0.05 * rng.standard_normal((b, 3))
    wanted = _ahead(position, task, h)
    episode_position = np.array([0.3, 0.0, 0.9]) + _arc(n)
    episode_wanted = np.stack([episode_position[np.minimum(np.arange(i, i + h), n - 1)] for i in range(n)])
    episode_wanted = np.concatenate([episode_wanted, np.zeros((n, h, 3)), np.ones((n, h, 2))], axis=-1)
    values = {
        "step": step,
        "control_hz": 20.0,
        "tasks": ("drawer-open", "door-close"),
        "temperatures": np.array([0.02, 0.05, 0.2][:t]),
        "samples": samples,
        "drift": 0.2 * (target[:, None] - samples),
        "drift_rms": np.array([0.06, 0.04, 0.02][:t]),
        "target": target,
        "mask": mask,
        "chunks": _answers(rng, wanted, g, noise),
        "wanted": wanted,
        "task": task,
        "position": position,
        "episode_task": "drawer-open",
        "instruction": "open the drawer",
        "cameras": ("front", "wrist", "overhead", "left")[:v],
        "frames": rng.integers(0, 256, (n, v, side, side, 3), np.uint8),
        "episode_chunks": _answers(rng, episode_wanted, g, noise),
        "episode_wanted": episode_wanted,
        "episode_mask": (np.arange(n)[:, None] + np.arange(h) < n).astype(float),
        "episode_position": episode_position,
        "episode_steps": 4 * np.arange(n),
        "attention": rng.dirichlet(np.ones(v * patches**2), n).reshape(n, v, patches, patches),
    }
    return FigureInputs(**(values | changes))


def _ahead(position, task, h):
    """Chunks that move 1 cm a step along x (or, for task 1, along y), turn 5 degrees a step and close the gripper."""
    path = position[:, None] + 0.01 * np.arange(1, h + 1)[:, None] * np.eye(3)[task][:, None]
    angle = np.broadcast_to(np.radians(5.0) * np.arange(1, h + 1), path.shape[:2])
    turned = Rotation.from_rotvec(angle.reshape(-1, 1) * [0.0, 0.0, 1.0]).as_quat().reshape(*angle.shape, 4)
    gripper = np.broadcast_to(np.arange(h) < h / 2, angle.shape)[..., None]
    return np.concatenate([path, turned, gripper], axis=-1)


def _arc(n):
    angle = np.linspace(0, np.pi / 2, n)
    return 0.2 * np.stack([np.sin(angle), 1 - np.cos(angle), 0.5 * angle], axis=-1)


def _answers(rng, wanted, g, noise):
    """g chunks [b g h 8] round each of [b h 8]: noise of centimetres, of some degrees, of opening."""
    shape = (len(wanted), g, *wanted.shape[1:])
    answers = np.broadcast_to(wanted[:, None], shape).copy()
    answers[..., :3] += 0.03 * noise * rng.standard_normal((*shape[:-1], 3))
    turns = Rotation.from_rotvec(0.2 * noise * rng.standard_normal((answers[..., 0].size, 3)))
    answers[..., 3:7] = (turns * Rotation.from_quat(answers[..., 3:7].reshape(-1, 4))).as_quat().reshape(*shape[:-1], 4)
    answers[..., 7] = np.clip(answers[..., 7] + 0.2 * noise * rng.standard_normal(shape[:-1]), 0, 1)
    return answers
