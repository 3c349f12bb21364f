"""Every check finds the fault planted for it, where it was planted, and is silent on clean demonstrations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.rotation import rotation_6d
from drifting_vla_jax.report.dataset.checks.registry import CHECKS, SEVERITIES
from drifting_vla_jax.report.dataset.checks.rotation import AXES
from tests.report.dataset.planted import NAMES, changed, clean, found, seen

T = 25  # where faults are planted; the first half of an episode is 0 .. 19
NEGATIVE = "Quaternions with negative w"


def not_a_number(state, actions):
    actions[T, 0], state[T + 1, 3] = np.nan, np.inf


def jump(state, actions):
    """The hand is 12 cm farther along from step T on."""
    actions[T:, 2] += 0.12
    state[T + 1 :, 2] += 0.12


def far_away(state, actions):
    actions[:, 0] += 5
    state[:, 0] += 5


def beside(state, actions):
    actions[:, 1] += 0.7
    state[:, 1] += 0.7


def longer_quaternion(state, actions):
    actions[T, 3:7] *= 1.5


def flip(state, actions):
    actions[T:, 3:7] *= -1


def turn(state, actions):
    later = Rotation.from_quat(actions[T:, 3:7]) * Rotation.from_euler("x", 60, degrees=True)
    actions[T:, 3:7] = later.as_quat(canonical=True)


def wide_gripper(state, actions):
    actions[T, 7] = 1.5


def stuck_gripper(state, actions):
    actions[:, 7] = 1


def missed(state, actions):
    state[:, 1] += 0.04


def rest_at_start(state, actions):
    wait = [0] * 25
    return np.concatenate([state[wait], state]), np.concatenate([actions[wait], actions])


def rest_at_end(state, actions):
    last = [-1] * 43
    return np.concatenate([state[5:], state[last]]), np.concatenate([actions[5:], actions[last]])


def short(state, actions):
    return state[12:27], actions[12:27]


ONE_EPISODE = {  # fault: (check, step, part of the text, other checks that this fault is also for)
    not_a_number: ("Numbers that are NaN or infinite", T, "2 numbers are NaN or infinite, the first in action x", ()),
    jump: ("Jumps of position", T, "12.0 cm in one step (2.4 m/s)", ()),
    far_away: ("Positions outside the workspace", 0, "m from the origin: millimetres or centimetres?", ()),
    beside: ("Positions outside the workspace", 0, "cm outside where the task's episodes usually are, 40 steps", ()),
    longer_quaternion: ("Quaternions not of length 1", T, "length is 1.500", ()),
    flip: ("Quaternions that flip their sign", T, "1 time,", (NEGATIVE,)),
    turn: ("Sudden turns", T, "degrees in one step", ()),
    wide_gripper: ("Gripper outside 0 .. 1", T, "1.500", ()),
    stuck_gripper: ("Gripper that never moves in an episode", None, "stays at 1.00; it moves in 5 of 6", ()),
    missed: ("Targets that are not reached", None, "4.0 cm from the target", ()),
    rest_at_start: ("Long rest at the start or end", 0, "1.3 s at the start", ()),
    rest_at_end: ("Long rest at the start or end", 34, "2.2 s at the end", ()),
    short: ("Unusual lengths", None, "15 steps; the task's median is 40", ()),
}


def of_task(episodes, fault, task="push"):
    return [changed(e, fault) if e.task == task else e for e in episodes]


def test_clean_demonstrations_have_no_findings():
    assert not found(clean())


@pytest.mark.parametrize("fault", ONE_EPISODE, ids=lambda f: f.__name__)
def test_a_fault_of_one_episode(fault):
    name, step, says, also = ONE_EPISODE[fault]
    episodes = clean()
    episodes[4] = changed(episodes[4], fault)
    results = found(episodes)
    assert set(results) == {name, *also}
    (finding,) = results[name]
    assert finding.episode == ("train", 4) and finding.task == "push" and says in finding.text
    assert finding.step == step or (fault is missed and finding.step is not None)


def present_pose(state, actions):
    actions[:, :3] = state[:, :3]


def other_origin(state, actions):
    actions[:, 0] += 0.3


def wxyz(state, actions):
    actions[:, 3:7] = actions[:, [6, 3, 4, 5]]


def negative(state, actions):
    actions[:, 3:7] *= -1


def metres(state, actions):
    actions[:, 7] *= 0.08


def closed(state, actions):
    actions[:, 7] = 0


def inverted(state, actions):
    actions[:, 7] = 1 - actions[:, 7]


ONE_TASK = (
    (present_pose, "Actions that are the present pose", "nearest to the state at t (0.0 cm, median)", ()),
    (other_origin, "Targets and states in different frames", "targets are 30 cm (median)", ()),
    (wxyz, "Quaternions probably in the order w x y z", "never negative, the last one is in 100 %", (NEGATIVE,)),
    (negative, NEGATIVE, "negative in 100 % of the task's steps", ()),
    (metres, "Gripper in other units", "between 0.000 and 0.080", ()),
    (closed, "Gripper that no episode of a task moves", "stays at 0.00 in all of 6 episodes", ()),
    (inverted, "Gripper upside down", "correlation of the action with the measured opening is -1.00", ()),
)


@pytest.mark.parametrize(("fault", "name", "says", "also"), ONE_TASK)
def test_a_fault_of_a_task(fault, name, says, also):
    results = found(of_task(clean(), fault))
    assert set(results) == {name, *also}
    (finding,) = results[name]
    assert finding.episode is None and finding.task == "push" and says in finding.text


def test_the_order_of_a_quaternion_is_told_by_the_hands_axes():
    """A state that knows where the hand's axes point decides, whatever the signs are."""

    def with_axes(state, actions):
        axes = np.concatenate([rotation_6d(actions[:1, 3:7]), rotation_6d(actions[:-1, 3:7])]).astype(np.float32)
        return np.concatenate([state[:, :3], axes, state[:, 3:]], axis=1), actions

    def negative_wxyz(state, actions):
        actions[:, 3:7] = -actions[:, [6, 3, 4, 5]]

    names = (*NAMES[:3], *AXES, "gripper")
    episodes = [changed(e, with_axes) for e in clean()]
    assert not found(episodes, names=names)
    results = found(of_task(episodes, negative_wxyz), names=names)
    (finding,) = results["Quaternions probably in the order w x y z"]
    assert "read as w x y z they agree with the state's axes" in finding.text and finding.task == "push"


def test_copies_and_what_validation_shares_with_training():
    episodes = clean()
    train, val = episodes[2], episodes[10]
    results = found([*episodes, replace(train, index=10, seed=99, first=400)])
    assert set(results) == {"Copies of an episode"}
    assert results["Copies of an episode"][0].episode == ("train", 10)
    assert "the same as train 2" in results["Copies of an episode"][0].text
    same_numbers = replace(val, state=train.state, actions=train.actions)
    same_scene = replace(val, seed=train.seed)
    for episode, says in ((same_numbers, "the same as train 2"), (same_scene, "the same start as train 2")):
        results = found([*episodes[:10], episode, episodes[11]])
        assert set(results) == {"Validation episodes that are in training"}
        (finding,) = results["Validation episodes that are in training"]
        assert finding.episode == ("val", 0) and says in finding.text
    unknown = [replace(e, seed=-1) for e in episodes]
    assert not found(unknown)  # RLBench demonstrations have no seed: that is no scene in common


def test_instructions():
    episodes = clean()
    results = found([*episodes[:4], replace(episodes[4], instructions=("push it", " ")), *episodes[5:]])
    assert set(results) == {"Empty instructions"} and results["Empty instructions"][0].episode == ("train", 4)
    results = found([*episodes[:4], replace(episodes[4], instructions=("pull it",)), *episodes[5:]])
    (finding,) = results.pop("Instructions of another task")
    assert not results and finding.episode == ("train", 4) and "'pull it' is what pull is asked with" in finding.text


def black(views):
    views["side"].light.update({7: (0.0, 0.0), 9: (0.0, 0.0)})


def frozen(views):
    views["front"] = replace(views["front"], digests=(*views["front"].digests[:20], *[b"one"] * 20))


def twins(views):
    views["side"] = views["front"]


def torn(views):
    views["side"] = replace(views["side"], damaged=(3,))


def shifted(views):
    for camera in views:
        views[camera] = replace(views[camera], misplaced=tuple(range(5, 40)))


IMAGES = (
    (black, "One colour for an image", 7, "camera side: black, 2 steps in all"),
    (frozen, "Frozen camera", 20, "camera front: one image for 20 steps while the hand moved 19 cm"),
    (twins, "One image in two cameras", 0, "cameras front and side show the same image, 40 steps"),
    (torn, "Images that cannot be decoded", 3, "camera side"),
    (shifted, "Records that are not their row", 5, "35 steps in all"),
)


@pytest.mark.parametrize(("fault", "name", "step", "says"), IMAGES)
def test_a_fault_of_images(fault, name, step, says):
    episodes = clean()
    pictures = seen(episodes)
    fault(pictures["train", 3])
    results = found(episodes, pictures)
    assert set(results) == {name}
    (finding,) = results[name]
    assert (finding.episode, finding.step) == (("train", 3), step) and says in finding.text


def test_a_hand_at_rest_may_see_the_same_image():
    def rest(state, actions):
        state[:], actions[:, :3] = state[0], state[0, :3]

    episodes = clean()
    episodes[3] = changed(episodes[3], rest)
    pictures = seen(episodes)
    frozen(pictures["train", 3])
    assert "Frozen camera" not in found(episodes, pictures)


def test_an_episode_of_one_step_is_no_trouble():
    one = [changed(e, lambda state, actions: (state[:1], actions[:1])) for e in clean()]
    assert "Jumps of position" not in found(one)
    assert not found([])


def test_the_worst_comes_first():
    episodes = clean()
    for number, size in ((2, 0.12), (4, 0.16)):

        def leap(state, actions, size=size):
            actions[T:, 2] += size
            state[T + 1 :, 2] += size

        episodes[number] = changed(episodes[number], leap)
    episodes[6] = changed(episodes[6], wide_gripper)
    results = found(episodes)
    assert next(iter(results)) == "Gripper outside 0 .. 1"
    assert [f.episode for f in results["Jumps of position"]] == [("train", 4), ("train", 2)]


def test_every_check_is_planted_for():
    """A check without a test of its fault is not known to work."""
    across = ("Copies of an episode", "Validation episodes that are in training")
    across += ("Empty instructions", "Instructions of another task")
    planted = {name for name, *_ in ONE_EPISODE.values()} | {name for _, name, *_ in (*ONE_TASK, *IMAGES)} | set(across)
    assert planted == {check.name for check in CHECKS} and len(planted) == len(CHECKS)
    assert {check.severity for check in CHECKS} == set(SEVERITIES)
