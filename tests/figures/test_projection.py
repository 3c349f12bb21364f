import numpy as np
import pytest

from drifting_vla_jax.figures.projection import find_modes, flat, joint_plane

RNG = np.random.default_rng(0)


def test_the_plane_shows_what_only_the_experts_do():
    samples, experts = np.zeros((100, 5)), np.zeros((4, 5))
    samples[:, 0] = np.linspace(-1, 1, 100)
    experts[:, 3] = [-9, 9, -9, 9]
    plane = joint_plane(experts, samples)
    assert abs(plane.axes[0, 3]) == pytest.approx(1.0)
    assert abs(plane.axes[1, 0]) == pytest.approx(1.0)
    assert plane.shares.sum() == pytest.approx(1.0)


def test_as_many_samples_as_one_likes_weigh_like_the_experts():
    samples, experts = RNG.standard_normal((10, 6)), RNG.standard_normal((5, 6))
    few, many = joint_plane(experts, samples), joint_plane(experts, np.repeat(samples, 50, axis=0))
    np.testing.assert_allclose(few.axes, many.axes, atol=1e-8)


def test_displacements_turn_as_points_do():
    plane = joint_plane(RNG.standard_normal((9, 4)), RNG.standard_normal((9, 4)))
    x, v = RNG.standard_normal((2, 3, 4))
    np.testing.assert_allclose(plane.place(x + v), plane.place(x) + plane.turn(v))


def test_masked_entries_are_zero_in_samples_and_targets_alike():
    mask = np.ones((2, 3, 4))
    mask[1, 2] = 0
    assert flat(np.ones((2, 3, 4)), mask).sum(1).tolist() == [12, 8]
    assert flat(np.ones((2, 5, 3, 4)), mask).sum(1).tolist() == [12] * 5 + [8] * 5


@pytest.mark.parametrize("k", [2, 3, 5])
def test_modes_are_counted(k):
    centres = 10 * np.stack([np.cos(2 * np.pi * np.arange(k) / k), np.sin(2 * np.pi * np.arange(k) / k)], axis=1)
    points = np.concatenate([c + 0.3 * RNG.standard_normal((20 + i, 2)) for i, c in enumerate(centres)])
    labels, silhouette = find_modes(points)
    assert silhouette > 0.8
    assert np.bincount(labels).tolist() == [20 + i for i in reversed(range(k))]


def test_one_cloud_is_said_to_be_one():
    _, silhouette = find_modes(RNG.standard_normal((300, 2)))
    assert silhouette < 0.6
    labels, silhouette = find_modes(np.ones((10, 2)))
    assert silhouette == 0.0 and set(labels) == {0}
