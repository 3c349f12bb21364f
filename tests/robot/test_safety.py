"""What reaches an arm in place of a target, in numbers that can be checked by head."""

import dataclasses
import json

import numpy as np
import pytest

from drifting_vla_jax.robot.safety import SafetyLimits, angle_between, turn_towards
from tests.robot.fake_arm import DOWN, LIMITS, START, action

LAST = np.concatenate([START, DOWN])


def turned(degrees: float) -> np.ndarray:
    """DOWN, turned about its own x axis."""
    half = np.radians(degrees) / 2
    return np.array([np.cos(half), 0, 0, -np.sin(half)])


def test_what_is_within_the_limits_is_left_alone():
    target = action(0.52, 0.01, 0.3, rotation=turned(9), gripper=0.3)
    allowed, events = LIMITS.apply(target, LAST, START)
    np.testing.assert_array_equal(allowed, target)
    assert events == ()


def test_a_target_outside_the_box_becomes_the_nearest_point_in_it():
    near = np.concatenate([[0.68, 0.0, 0.12], DOWN])
    allowed, events = LIMITS.apply(action(0.72, 0.01, 0.09), near, near[:3])
    np.testing.assert_allclose(allowed[:3], [0.7, 0.01, 0.1])
    assert events == ("box_clipped",)


def test_a_long_step_is_cut_and_goes_the_same_way():
    allowed, events = LIMITS.apply(action(0.56, 0.08, 0.3), LAST, START)  # 10 cm away
    np.testing.assert_allclose(allowed[:3], [0.53, 0.04, 0.3])
    assert events == ("step_clipped",)


def test_a_large_turn_is_cut_on_the_shorter_arc():
    for sign in (1, -1):  # q and -q are the same rotation
        allowed, events = LIMITS.apply(action(*START, rotation=sign * turned(90)), LAST, START)
        assert events == ("turn_clipped",)
        assert np.degrees(angle_between(allowed[3:7], DOWN)) == pytest.approx(10)
        assert np.degrees(angle_between(allowed[3:7], turned(90))) == pytest.approx(80)
        assert np.linalg.norm(allowed[3:7]) == pytest.approx(1)


def test_an_arm_that_stays_behind_is_not_wound_up():
    last = np.concatenate([START + [0.18, 0, 0], DOWN])
    allowed, events = LIMITS.apply(action(*(START + [0.2, 0, 0])), last, START)
    assert events == () and allowed[0] == pytest.approx(0.7)
    far = dataclasses.replace(LIMITS, lead_m=0.1)
    allowed, events = far.apply(action(*(START + [0.2, 0, 0])), last, START)
    np.testing.assert_allclose(allowed[:3], START + [0.1, 0, 0])
    assert events == ("lead_clipped",)


def test_no_target_leaves_the_box_whatever_came_before():
    rng = np.random.default_rng(0)
    for _ in range(300):
        last = np.concatenate([rng.uniform(LIMITS.low, LIMITS.high), DOWN])
        measured = rng.uniform(LIMITS.low, LIMITS.high)
        rotation = rng.standard_normal(4)
        target = np.concatenate([rng.uniform(-1, 1, 3), rotation / np.linalg.norm(rotation), [0.5]])
        allowed, _ = LIMITS.apply(target, last, measured)
        assert LIMITS.inside(allowed[:3])
        assert np.degrees(angle_between(allowed[3:7], DOWN)) <= 10 + 1e-6
        assert np.linalg.norm(allowed[:3] - measured) <= 0.2 + 1e-9


def test_a_step_stays_a_step_at_the_wall():
    last = np.concatenate([[0.69, 0.0, 0.3], DOWN])
    allowed, events = LIMITS.apply(action(0.9, 0.18, 0.3), last, last[:3])
    assert np.linalg.norm(allowed[:3] - last[:3]) == pytest.approx(0.05) and allowed[0] <= 0.7
    assert events == ("box_clipped", "step_clipped")


def test_small_angles_are_exact():
    assert np.degrees(angle_between(turned(1e-4), DOWN)) == pytest.approx(1e-4, rel=1e-6)
    assert np.degrees(angle_between(turned(180), DOWN)) == pytest.approx(180)
    half, cut = turn_towards(DOWN, turned(20), np.radians(5))
    assert cut and np.degrees(angle_between(half, turned(20))) == pytest.approx(15)


GOOD = json.loads(json.dumps(dataclasses.asdict(LIMITS)))


def test_limits_come_from_a_file(tmp_path):
    (tmp_path / "limits.json").write_text(json.dumps(GOOD))
    assert SafetyLimits.load(tmp_path / "limits.json") == LIMITS


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"step_m": 0}, "step_m is 0; expected a number above 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan; expected a number above 0"),
        ({"stale_s": "soon"}, "stale_s is 'soon'; expected a number above 0"),
        ({"low": [0.3, -0.2]}, "expected x, y, z in metres"),
        ({"low": [0.8, -0.2, 0.1]}, "expected low below high"),
        ({"lead_m": 0.01}, "lead_m 0.01 is below step_m 0.05"),
        ({"setp_m": 0.1}, "unknown limit 'setp_m'; .*step_m"),
        ({"high": None}, "lacks high; every limit must be said"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(tmp_path, changes, line):
    said = {name: value for name, value in (GOOD | changes).items() if value is not None}
    (tmp_path / "limits.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=line):
        SafetyLimits.load(tmp_path / "limits.json")
    (tmp_path / "limits.json").write_text("low: 1")
    with pytest.raises(ValueError, match="is no JSON"):
        SafetyLimits.load(tmp_path / "limits.json")
