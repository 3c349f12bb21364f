"""What is logged: speed, errors of drawn chunks in physical units, the progress bar. Where it goes:
``train/monitoring/loggers.py``."""

from __future__ import annotations

import contextlib
import sys
import time

import jax
import numpy as np
from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from drifting_vla_jax.data.normalization import ActionNormalizer, rotation_error_degrees
from drifting_vla_jax.figures.sample_distribution import expert_spread
from drifting_vla_jax.objectives.base import COLLAPSED


class Clock:
    """Where the time of a logging window went: samples per second, and the share spent waiting for input."""

    def __init__(self):
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waited(self, seconds: float) -> None:
        self._waited += seconds
        self._steps += 1

    def window(self, batch_size: int) -> dict[str, float]:
        """Figures since the last call; call it after ``block_until_ready``."""
        elapsed = time.perf_counter() - self._start
        out = {
            "samples_per_second": self._steps * batch_size / elapsed,
            "step_ms": 1e3 * elapsed / max(self._steps, 1),
            "input_wait_share": self._waited / elapsed,
        }
        self.__init__()
        return out


def action_errors(
    samples: np.ndarray, target: np.ndarray, mask: np.ndarray, state: np.ndarray, actions: ActionNormalizer
) -> dict[str, float]:
    """Errors of drawn chunks in physical units, against held-out expert chunks.

    Args:
      samples: [b, g, h, a] network units. target, mask: [b, h, a]. state: [b, s] normalised.

    Returns:
      position_error_cm and rotation_error_deg of single samples (what the robot would do), gripper_accuracy (opening
      on the right side of one half), for joints joint_error (mean absolute, in their own unit), of each what the layout
      has, means over arms; energy_score (E|x - y| - E|x - x'| / 2 over samples x and the expert y, per root of
      the entries that count: a proper score, lowest for the right distribution); in network units, as
      ``objectives.base.sample_statistics`` explains them,
      centroid_error, sample_spread, collapsed_share; and spread_ratio: the spread over how far apart the experts of the
      most alike chunks of the batch are. A healthy run comes down from far above 1 and settles near or below it; a
      ratio that falls on while centroid_error does not is a policy that has become sure of something wrong.
    """
    real = mask.max(-1) > 0  # [b, h]
    position = actions.position(state)
    wanted = actions.denormalise(target, position)[:, None]
    drawn = actions.denormalise(samples, position[:, None])
    steps = np.broadcast_to(real[:, None], drawn.shape[:3])
    errors: dict[str, list[float]] = {}
    for part in actions.layout.parts:
        name, unit, found = _error(part.kind, drawn[..., part.boundary], wanted[..., part.boundary])
        errors.setdefault(name, []).append(unit * float(found[steps].mean()))
    centroid = samples.mean(1)
    count = max(mask.sum(), 1.0)
    deviation = np.square(samples - centroid[:, None]).mean(1) * mask
    spread = float(np.sqrt(deviation.sum() / count))
    experts = expert_spread(target, mask)
    each = np.sqrt(deviation.sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1.0))
    return {
        **{name: float(np.mean(of_parts)) for name, of_parts in errors.items()},
        "centroid_error": float(np.sqrt((np.square(centroid - target) * mask).sum() / count)),
        "sample_spread": spread,
        "energy_score": _energy_score(samples, target, mask),
        "spread_ratio": spread / max(1.0 if experts is None else experts, 1e-6),
        "collapsed_share": float((each < COLLAPSED).mean()),
    }


def _error(kind: str, drawn: np.ndarray, wanted: np.ndarray) -> tuple[str, float, np.ndarray]:
    """What errors of this kind of part are called, how many of the unit in the name are one, and how large each action's is."""
    if kind == "position":
        return "position_error_cm", 100.0, np.linalg.norm(drawn - wanted, axis=-1)
    if kind == "rotation":
        return "rotation_error_deg", 1.0, rotation_error_degrees(drawn, wanted)
    if kind == "gripper":
        return "gripper_accuracy", 1.0, ((drawn > 0.5) == (wanted > 0.5)).mean(-1)
    return "joint_error", 1.0, np.abs(drawn - wanted).mean(-1)


def _energy_score(samples: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    g = samples.shape[1]
    to_expert = np.sqrt((np.square(samples - target[:, None]) * mask[:, None]).sum((2, 3))).mean(1)
    pairs = np.square(samples[:, :, None] - samples[:, None]) * mask[:, None, None]
    to_samples = np.sqrt(pairs.sum((3, 4))).sum((1, 2)) / max(g * (g - 1), 1)
    entries = np.sqrt(np.maximum(mask.sum((1, 2)), 1.0))
    return float(((to_expert - to_samples / 2) / entries).mean())


class _Console(ObjectWrapper):
    """stderr, whose end is no reason to end: Ctrl-C ends the ``tee`` behind it, too, before the last step is saved."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.flush()


def progress_bar(total: int, done: int) -> tqdm:
    """The console's one line; on a file or pipe it prints seldom, so that logs stay short."""
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        file=_Console(sys.stderr),
        desc="train",
        unit="step",
        dynamic_ncols=interactive,
        mininterval=0.5 if interactive else 15.0,
        smoothing=0.05,
        disable=jax.process_index() > 0,
    )
