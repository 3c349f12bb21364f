import numpy as np
import pytest
from matplotlib.quiver import Quiver

from drifting_vla_jax.figures import drift_field
from drifting_vla_jax.figures.projection import flat, joint_plane
from drifting_vla_jax.figures.style import NothingToDrawError
from tests.figures.fake import fake_snapshot


def network(s):
    return s.samples, s.drift, s.target, s.mask


def quivers(figure):
    return [child for axes in figure.axes for child in axes.get_children() if isinstance(child, Quiver)]


def test_arrows_are_the_projected_drift_true_to_scale(snapshot):
    everywhere, close = quivers(drift_field.plot_drift_field(*network(snapshot)))
    x, v, y = (flat(part, snapshot.mask) for part in (snapshot.samples, snapshot.drift, snapshot.target))
    plane = joint_plane(y, x)
    np.testing.assert_allclose(everywhere.get_offsets(), plane.place(x))
    np.testing.assert_allclose(
        np.stack([everywhere.U, everywhere.V], axis=1), plane.place(x + v) - plane.place(x), atol=1e-9
    )
    for quiver in (everywhere, close):
        assert (quiver.scale, quiver.scale_units, quiver.angles) == (1, "xy", "xy")
    assert snapshot.samples.shape[1] == close.N


def test_a_converged_field_has_no_arrows(snapshot):
    still = fake_snapshot(drift=0.0 * snapshot.drift)
    figure = drift_field.plot_drift_field(*network(still))
    assert all(np.all(quiver.U == 0) and np.all(quiver.V == 0) for quiver in quivers(figure))
    assert figure.axes[0].texts[-1].get_text().startswith("RMS |V| 0 ")


def test_the_rms_is_of_whole_chunks(snapshot, numbers):
    along = np.zeros_like(snapshot.drift)
    along[..., 0, :2] = [3.0, 4.0]
    text = drift_field.plot_drift_field(*network(fake_snapshot(drift=along))).axes[0].texts[-1].get_text()
    assert numbers(text)[0] == 5.0


def test_transport_joins_each_sample_to_where_it_is_carried(snapshot):
    axes = drift_field.sample_transport(*network(snapshot)).axes[0]
    joined = axes.lines[0].get_xydata().reshape(-1, 3, 2)
    before, after, experts = (c.get_offsets() for c in axes.collections)
    np.testing.assert_allclose(joined[:, 0], before)
    np.testing.assert_allclose(joined[:, 1], after)
    assert len(experts) == len(snapshot.target) and len(before) == snapshot.samples[..., 0, 0].size


def test_a_sample_that_is_carried_all_the_way_lands_on_its_expert(snapshot):
    there = fake_snapshot(drift=snapshot.target[:, None] - snapshot.samples)
    _, after, experts = (c.get_offsets() for c in drift_field.sample_transport(*network(there)).axes[0].collections)
    np.testing.assert_allclose(after, np.repeat(experts, 8, axis=0), atol=1e-9)


def test_the_trend_is_drawn_raw_and_smooth():
    jagged = {step: 10.0 ** (step % 2) for step in range(100)}
    axes = drift_field.drift_trend({"train/lambda_V": jagged, "never": {0: 0.0}}).axes[0]
    raw, smooth = axes.lines
    assert axes.get_yscale() == "log" and smooth.get_label() == "train/lambda_V"
    assert np.ptp(raw.get_ydata()) == 9.0
    inner = smooth.get_ydata()[5:-5]
    assert np.all((inner > 2) & (inner < 5))
    with pytest.raises(NothingToDrawError):
        drift_field.drift_trend({"never": {0: 0.0}})


def test_a_bar_per_temperature():
    axes = drift_field.temperature_drift(np.array([0.02, 0.2]), np.array([3.0, 1.0])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [3.0, 1.0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.02", "0.2"]
