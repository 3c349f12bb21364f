"""The stored outputs are those of transformers and torch as they are now: made again, where both are installed."""

import json

import numpy as np
import pytest

from tests.models import reference

WHY = "the extra [parity] is not installed; what is stored of it is compared with all the same"
pytest.importorskip("torch", reason=WHY)
pytest.importorskip("transformers", reason=WHY)

from tests.models import make_stored_outputs as made  # noqa: E402 - needs both


@pytest.mark.parametrize("case", made.MODELS)
def test_names_shapes_and_sizes(case):
    """config.json says by which version it was written; all else stays."""
    fresh, stored = made.about(case), reference.about(case)
    fresh["config"].pop("transformers_version"), stored["config"].pop("transformers_version")
    assert fresh == stored


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * ("/" in c)) for c in (*reference.IMAGES, *reference.TEXTS)]
)
def test_outputs_of_encoders(case):
    for key, fresh in made.outputs(case):
        assert reference.worst(fresh, reference.stored()[key]) < reference.TOLERANCE


def test_interpolation():
    for key, fresh in made.resampled():
        np.testing.assert_allclose(fresh, reference.stored()[key], atol=1e-6)


def test_ids():
    """In tokenizer.json spaces may move between versions of its library."""
    fresh = dict(made.tokens())
    np.testing.assert_array_equal(fresh["tokens/ids"], reference.stored()["tokens/ids"])
    ours, theirs = (json.loads(of["tokens/tokenizer.json"].tobytes()) for of in (fresh, reference.stored()))
    assert ours == theirs
