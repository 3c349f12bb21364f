import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.figures import errors
from drifting_vla_jax.figures.style import NothingToDrawError
from drifting_vla_jax.figures.units import DIMENSIONS, measured
from tests.figures.fake import fake_snapshot


def physical(s, chunks=None):
    return s.chunks if chunks is None else chunks, s.wanted, s.mask.any(-1), s.position


def perfect(s):
    return np.repeat(s.wanted[:, None], 3, axis=1)


def mean_errors(figure, numbers):
    return {axes.get_title(loc="left").split(" (")[0]: numbers(axes.texts[0].get_text())[0] for axes in figure.axes[:7]}


def test_a_perfect_prediction_lies_on_the_diagonal(snapshot, numbers):
    chunks = perfect(snapshot)
    chunks[..., 3:7] *= -1  # the same orientation
    figure = errors.prediction_scatter(*physical(snapshot, chunks))
    assert len(figure.axes) == len(DIMENSIONS) + 1
    assert set(mean_errors(figure, numbers)) == set(DIMENSIONS)
    for axes in figure.axes[:7]:
        x, y = axes.lines[1].get_data()
        np.testing.assert_allclose(x, y, atol=1e-5)
        assert numbers(axes.texts[0].get_text())[0] < 1e-5


def test_every_dimension_s_error_stands_in_its_own_panel_and_unit(snapshot, numbers):
    chunks = perfect(snapshot)
    chunks[..., 1] += 0.02
    turned = Rotation.from_quat(chunks[..., 3:7].reshape(-1, 4)) * Rotation.from_euler("y", 10, degrees=True)
    chunks[..., 3:7] = turned.as_quat().reshape(chunks[..., 3:7].shape)
    chunks[..., 7] = 1 - chunks[..., 7]
    found = mean_errors(errors.prediction_scatter(*physical(snapshot, chunks)), numbers)
    expected = {"y": 2.0, "turn y": 10.0, "gripper": 1.0}
    assert {name: round(value, 4) for name, value in found.items()} == {
        name: expected.get(name, 0.0) for name in DIMENSIONS
    }


def test_the_short_way_round_half_a_turn():
    wanted, chunks = np.zeros((1, 1, 8)), np.zeros((1, 1, 1, 8))
    wanted[..., 3:7] = Rotation.from_euler("x", 179, degrees=True).as_quat()
    chunks[..., 3:7] = Rotation.from_euler("x", -179, degrees=True).as_quat()
    predicted, expert = measured(chunks, wanted, np.zeros((1, 3)))
    np.testing.assert_allclose((predicted - expert[:, None])[0, 0, 0, 3:6], [2, 0, 0], atol=1e-5)


def test_the_radar_has_its_spike_where_the_error_is(snapshot):
    chunks = perfect(snapshot)
    chunks[..., 2] += 0.03
    axes = errors.error_radar(*physical(snapshot, chunks)).axes[0]
    outline = axes.lines[-1].get_ydata()
    assert np.argmax(outline) == DIMENSIONS.index("z")
    np.testing.assert_allclose(np.delete(outline[:7], 2), 0, atol=1e-5)
    assert axes.get_xticklabels()[2].get_text() == "z\n3 of 0.1 cm"
    assert outline[2] == pytest.approx(30.0)


def test_a_spoke_is_as_long_as_answering_the_mean_costs(snapshot):
    chunks = perfect(snapshot)
    real = snapshot.mask.any(-1)
    x = 100 * (snapshot.wanted[..., 0] - snapshot.position[:, None, 0])
    chunks[..., 0] = (x[real].mean() / 100 + snapshot.position[:, 0])[:, None, None]
    outline = errors.error_radar(*physical(snapshot, chunks)).axes[0].lines[-1].get_ydata()
    assert outline[0] == pytest.approx(1.0)


def test_the_heat_map_is_hottest_at_the_wrong_cell(snapshot):
    chunks = perfect(snapshot)
    chunks[:, :, 5, 2] += 0.07
    axes = errors.error_heatmap(*physical(snapshot, chunks)).axes[0]
    shades = axes.images[0].get_array()
    assert np.unravel_index(np.argmax(shades), shades.shape) == (5, 2) and shades.shape == (8, 8)
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert written[5, 2] == "7.00" and written[4, 2] == written[5, 1] == "0.00"
    assert [tick.get_text() for tick in axes.get_xticklabels()][5:] == ["turn z\n(°)", "angle\n(°)", "gripper\n(share)"]


def test_padding_does_not_count(snapshot):
    chunks = perfect(snapshot)
    chunks[-1, :, 4:] = 5.0  # the last observation's second half is padding
    found = errors.errors_by_step(*physical(snapshot, chunks))
    np.testing.assert_allclose(found, 0, atol=1e-5)
    with pytest.raises(NothingToDrawError):
        errors.error_radar(*physical(fake_snapshot(mask=0 * snapshot.mask)))
