"""Averages that can be done in the head."""

import numpy as np
import pytest

from drifting_vla_jax.rollout.chunking.averaging import average_actions

IDENTITY = (0.0, 0.0, 0.0, 1.0)


def turn(degrees: float, axis: int = 2) -> tuple[float, ...]:
    """A rotation about x, y or z as a quaternion."""
    half = np.radians(degrees) / 2
    return tuple(np.sin(half) if i == axis else 0.0 for i in range(3)) + (np.cos(half),)


def action(x: float, rotation=IDENTITY, gripper: float = 0.0) -> np.ndarray:
    return np.array([x, 0, 0, *rotation, gripper])


def degrees(result: np.ndarray) -> float:
    """The angle of a rotation about z."""
    return np.degrees(2 * np.arctan2(result[5], result[6]))


def test_positions_and_gripper_are_averaged_linearly():
    mean = average_actions(np.stack([action(0, gripper=1), action(4)]), (1, 3))
    np.testing.assert_allclose(mean, action(3, gripper=0.25))
    assert mean.dtype == np.float32


def test_half_way_between_two_rotations():
    mean = average_actions(np.stack([action(0), action(0, turn(90))]), (1, 1))
    assert degrees(mean) == pytest.approx(45, abs=1e-4)
    three = np.stack([action(0, turn(angle)) for angle in (10, 20, 30)])
    assert degrees(average_actions(three, (1, 1, 1))) == pytest.approx(20, abs=1e-4)


def test_a_quarter_of_the_way_is_nearly_a_quarter_of_the_angle():
    mean = average_actions(np.stack([action(0, turn(90)), action(0)]), (1, 3))
    assert degrees(mean) == pytest.approx(21.6, abs=0.05)  # a steady turn: 22.5


def test_a_quaternion_and_its_negative_are_one_rotation():
    q = np.array(turn(100, axis=0))
    for one, other in ((q, -q), (-q, q), (-q, -q)):
        mean = average_actions(np.stack([action(0, one), action(0, other)]), (1, 1))
        np.testing.assert_allclose(mean[3:7], q, atol=1e-7)
    mixed = np.stack([action(0, turn(80)), action(0, -np.array(turn(100)))])
    assert degrees(average_actions(mixed, (1, 1))) == pytest.approx(90, abs=1e-4)


def test_there_is_always_an_answer():
    """Rotations half a turn apart, whose quaternions are orthogonal, and any others."""
    half_turn = average_actions(np.stack([action(0), action(0, turn(180))]), (1, 1))
    assert degrees(half_turn) == pytest.approx(90, abs=1e-4)
    rng = np.random.default_rng(0)
    for _ in range(200):
        quaternions = rng.standard_normal((5, 4))
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        mean = average_actions(np.stack([action(0, q) for q in quaternions]), rng.uniform(0.01, 1, 5))
        assert np.linalg.norm(mean[3:7]) == pytest.approx(1, abs=1e-6) and mean[6] >= 0
