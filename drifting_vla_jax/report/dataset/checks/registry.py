"""Every check: its name, why it matters, how bad it is. ``run_checks`` runs them all.

wrong       training on it teaches something false, stops training, or makes validation lie
suspicious  may be right; look before training
note        harmless to training here; others who read the set may stumble
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drifting_vla_jax.report.dataset.checks import agreement, gripper, motion, rotation
from drifting_vla_jax.report.dataset.checks import dataset as sets
from drifting_vla_jax.report.dataset.checks import images as pictures
from drifting_vla_jax.report.dataset.checks.finding import Facts, Finding
from drifting_vla_jax.report.dataset.reader import Demonstration

SEVERITIES = ("wrong", "suspicious", "note")


@dataclass(frozen=True)
class Check:
    """A kind of fault.

    Attributes:
      name: what the page calls it.
      severity: one of SEVERITIES.
      why: what it does to a policy trained on it, and what to look at.
      find: (episodes, facts) -> findings; pure.
    """

    name: str
    severity: str
    why: str
    find: Callable[[Sequence[Demonstration], Facts], Iterable[Finding]]


CHECKS = (
    Check("Numbers that are NaN or infinite", "wrong",
          "One of them makes the statistics, and so every normalised action, NaN. The other checks leave these episodes out.",
          motion.not_finite),
    Check("Images that cannot be decoded", "wrong",
          "Training stops at the first one. Build the data set again.", pictures.damaged),
    Check("Records that are not their row", "wrong",
          "The images of one step are trained on beside the action of another. Build the data set again.", pictures.misplaced),
    Check("Quaternions not of length 1", "wrong",
          "They are no rotations. Often a wrong column, or an average of quaternions.", rotation.not_unit),
    Check("Actions that are the present pose", "wrong",
          "An action is the target for the NEXT step; a policy trained on the present one learns to stand still.",
          agreement.late),
    Check("Targets and states in different frames", "wrong",
          "Relative targets subtract the state's position: both have to be of one frame (world) and one point of the hand.",
          agreement.other_frame),
    Check("Positions outside the workspace", "wrong",
          "Other units or a tracking error. A few of them stretch the normalisation for every episode.", motion.outside),
    Check("Gripper outside 0 .. 1", "wrong",
          "0 is closed and 1 is open; policies are clipped to that range, so what lies outside cannot be learnt.",
          gripper.outside),
    Check("Gripper upside down", "wrong",
          "Where the action says open the measured opening falls: 0 has to be closed, 1 open.", gripper.upside_down),
    Check("One colour for an image", "wrong",
          "A camera that did not deliver, or a renderer that failed: nothing can be learnt from it but noise.", pictures.blank),
    Check("Frozen camera", "wrong",
          "The image stays while the hand moves: the policy sees a scene of long ago beside a present action.", pictures.frozen),
    Check("One image in two cameras", "wrong", "Two names for one camera: one of the views is missing.", pictures.same_view),
    Check("Validation episodes that are in training", "wrong",
          "Validation then measures memory: held-out errors look better than they are.", sets.leakage),
    Check("Empty instructions", "wrong",
          "The policy is asked nothing and has to guess the task from the images.", sets.empty_instructions),
    Check("Instructions of another task", "wrong",
          "The policy is asked for one thing and shown another. If two tasks share their words, language cannot tell them apart.",
          sets.foreign_instructions),
    Check("Jumps of position", "suspicious",
          "Farther in one control step than anything else of the task, or faster than arms are: a dropped frame, a tracking "
          "error, two episodes joined, or a simulator's glitch. A chunk across it teaches a leap.",
          motion.jumps),
    Check("Sudden turns", "suspicious", "The same, of the orientation: degrees in one control step.", rotation.turns),
    Check("Quaternions probably in the order w x y z", "suspicious",
          "This project reads x y z w. Compared with the hand's axes where the state has them; elsewhere judged by the sign: "
          "a first number that is never negative beside a last one that often is.",
          rotation.order),
    Check("Targets that are not reached", "suspicious",
          "The state after the action is farther from its target than anywhere else in the task: dropped steps, a collision, "
          "or state and action of different moments.",
          agreement.misses),
    Check("Gripper in other units", "suspicious",
          "It moves, but in a small part of 0 .. 1: fingers' metres are no opening.", gripper.units),
    Check("Gripper that never moves in an episode", "suspicious",
          "In most episodes of the task it does: a failed demonstration, or a signal that was not recorded.", gripper.stuck),
    Check("Unusual lengths", "suspicious",
          "Less than half or more than twice the task's median: cut off, not stopped, or another task.", sets.lengths),
    Check("Copies of an episode", "suspicious", "The same numbers twice weigh twice, and split badly.", sets.copies),
    Check("Long rest at the start or end", "suspicious",
          "Steps that teach to stand still: where many begin so, the policy waits for ever. Cut them.", motion.standing_still),
    Check("Gripper that no episode of a task moves", "note",
          "Right for pushing and pressing; a task that grasps would need it. Where no task moves it, it is left out of the loss.",
          gripper.unused),
    Check("Quaternions that flip their sign", "note",
          "q and -q are one rotation and the network here sees a matrix, so nothing is lost. A reader who averages or "
          "subtracts quaternions would see the hand leap.",
          rotation.sign_flips),
    Check("Quaternions with negative w", "note",
          "The layout says w >= 0. Harmless here, where the network sees a matrix.", rotation.negative_w),
)  # fmt: skip


def run_checks(episodes: Sequence[Demonstration], facts: Facts) -> list[tuple[Check, list[Finding]]]:
    """Every check with what it found, the worst first: by severity, then those that found something, then CHECKS' order."""
    finite = [e for e in episodes if np.isfinite(e.state).all() and np.isfinite(e.actions).all()]
    results = []
    for check in CHECKS:
        found = check.find(episodes if check.find is motion.not_finite else finite, facts)
        results.append((check, sorted(found, key=lambda f: -f.size)))
    return sorted(results, key=lambda result: (SEVERITIES.index(result[0].severity), not result[1]))
