import numpy as np
import pytest
from matplotlib.patches import Rectangle

from drifting_vla_jax.core.sample_statistics import expert_spread, spread_and_error
from drifting_vla_jax.figures import sample_distribution
from drifting_vla_jax.figures.style import NothingToDrawError
from drifting_vla_jax.figures.units import BOUNDARY
from tests.figures.fake import fake_snapshot


def overlaps(figure, numbers):
    return {axes.get_title(loc="left").split(" ")[0]: numbers(axes.texts[0].get_text())[0] for axes in figure.axes}


def distribution(s, chunks):
    return sample_distribution.action_distribution(chunks, s.wanted, s.mask.any(-1))


def test_the_same_actions_cover_each_other_whatever_their_sign(snapshot, numbers):
    chunks = np.repeat(snapshot.wanted[:, None], 4, axis=1)
    chunks[:, ::2, :, 3:7] *= -1
    found = overlaps(distribution(snapshot, chunks), numbers)
    assert list(found) == list(BOUNDARY) == ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper"]
    assert set(found.values()) == {100.0}


def test_a_quaternion_in_another_order_stands_out(snapshot, numbers):
    chunks = np.repeat(snapshot.wanted[:, None], 4, axis=1)
    chunks[..., 3:7] = chunks[..., [6, 3, 4, 5]]  # w first
    found = overlaps(distribution(snapshot, chunks), numbers)
    assert max(found["qx"], found["qw"], found["qz"]) < 20
    assert found["x"] == found["gripper"] == 100.0


def test_rounding_does_not_tell_constant_numbers_apart(snapshot, numbers):
    chunks = np.repeat(snapshot.wanted[:, None], 4, axis=1) + 1e-9
    assert overlaps(distribution(snapshot, chunks), numbers)["qx"] == 100.0


def test_w_is_the_last_of_the_four(snapshot):
    upright = snapshot.wanted.copy()
    upright[..., 3:7] = [0, 0, 0, 1]
    figure = sample_distribution.action_distribution(upright[:, None], upright, snapshot.mask.any(-1))
    middles = {axes.get_title(loc="left"): np.mean(axes.get_xlim()) for axes in figure.axes[3:7]}
    assert middles == pytest.approx({"qx": 0, "qy": 0, "qz": 0, "qw": 1}, abs=1e-9)


def bars(axes):
    heights = [patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)]
    return np.reshape(heights, (2, -1))


def test_two_even_modes_are_two_even_bars(snapshot):
    figure = sample_distribution.mode_coverage(snapshot.samples, snapshot.target, np.ones_like(snapshot.mask))
    cloud, shares = figure.axes
    np.testing.assert_allclose(bars(shares), 50.0)
    assert cloud.get_title(loc="left").startswith("k = 2 ") and cloud.get_title(loc="left").endswith("clear modes")


def test_a_lost_mode_has_a_bar_of_the_experts_alone(snapshot):
    lost = snapshot.samples - np.where(snapshot.task == 1, 4.0, 0.0)[:, None, None, None]  # task 1 answered as task 0
    experts, generated = bars(
        sample_distribution.mode_coverage(lost, snapshot.target, np.ones_like(snapshot.mask)).axes[1]
    )
    np.testing.assert_allclose(experts, 50.0)
    np.testing.assert_allclose(generated, [100.0, 0.0])


def test_spread_and_error_are_told_apart():
    target, mask = np.zeros((2, 3, 4)), np.ones((2, 3, 4))
    mask[:, :, 3] = 0
    drawn = np.stack([np.full((2, 3, 4), 2.0), np.full((2, 3, 4), 4.0)], axis=1)
    spread, error = spread_and_error(drawn, target, mask)
    np.testing.assert_allclose((spread, error), [[1, 1], [3, 3]])
    assert expert_spread(np.stack([target[0], target[0] + 2]), mask) == pytest.approx(np.sqrt(2))


def test_a_policy_that_is_sure_of_something_wrong_lies_in_the_shade(snapshot):
    sure = np.repeat((snapshot.target + 1)[:, None], 4, axis=1)
    sure[:, ::2] += 0.02
    axes = sample_distribution.sample_spread(sure, snapshot.target, snapshot.mask, snapshot.task, snapshot.tasks).axes[
        0
    ]
    points = np.concatenate(
        [line.get_xydata() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    )
    assert len(points) == 16 and np.all(points[:, 1] < points[:, 0] / 3)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["drawer-open", "door-close", "most alike experts"]


def test_one_sample_has_no_spread():
    s = fake_snapshot(g=1)
    with pytest.raises(NothingToDrawError, match="one sample"):
        sample_distribution.sample_spread(s.samples, s.target, s.mask, s.task, s.tasks)
