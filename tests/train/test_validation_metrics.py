"""Errors of drawn chunks, in physical units and in the network's."""

import numpy as np
import pytest

from drifting_vla_jax.core.action_layout import END_EFFECTOR
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.train.validation_metrics import METRICS, Drawn, measure


def test_errors_by_hand():
    """One step, position only: experts at 0 and 3 cm; samples 1 cm to either side of the first, at 4 and 4 cm beside the
    second."""
    scale = np.ones((1, END_EFFECTOR.network_dim))
    scale[0, :3] = 0.01  # network units are centimetres
    actions = ActionNormalizer("absolute", np.zeros_like(scale), scale, np.zeros(4), np.ones(4))
    identity = [1, 0, 0, 0, 1, 0]

    def chunk(x):
        return np.array([x, 0, 0, *identity, 1], np.float32)

    samples = np.array([[[chunk(-1)], [chunk(1)]], [[chunk(4)], [chunk(4)]]])
    target = np.array([[chunk(0)], [chunk(3)]])
    mask = np.zeros_like(target)
    mask[..., 0] = 1
    position = actions.position(np.zeros((2, 4), np.float32))
    chunks, wanted = actions.denormalise(samples, position[:, None]), actions.denormalise(target, position)
    found = measure(Drawn(samples, target, mask, chunks, wanted, END_EFFECTOR), METRICS)
    assert found["position_error_cm"] == pytest.approx(1.0, abs=1e-4)
    assert found["centroid_error"] == pytest.approx(0.5**0.5)
    assert found["sample_spread"] == pytest.approx(0.5**0.5)
    assert found["collapsed_share"] == 0.5
    assert found["energy_score"] == pytest.approx(((1 - 2 / 2) + (1 - 0)) / 2)
    assert found["spread_ratio"] == pytest.approx(
        0.5**0.5 / (3 / 2**0.5)
    )  # experts 3 apart: 3 / sqrt(2) from each other
    assert found["rotation_error_deg"] == pytest.approx(0, abs=0.1) and found["gripper_accuracy"] == 1.0
