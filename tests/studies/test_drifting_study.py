"""The study measures what it says: known samplers get known figures, and the page is made of the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.studies.drifting import report as page
from drifting_vla_jax.studies.drifting import runs as trials
from drifting_vla_jax.studies.drifting import toy_2d
from drifting_vla_jax.studies.drifting.synthetic_chunks import SyntheticChunks, energy_distance


def test_energy_distance_by_hand():
    """Points 0 and 2 against 1 and 3: 2 * mean(1, 3, 1, 1) - 2 - 2 = -1 without self-comparisons; far apart it is far."""
    x, y = (jnp.array(v, jnp.float32).reshape(1, 2, 1, 1) for v in ([0, 2], [1, 3]))
    np.testing.assert_allclose(energy_distance(x, y), [-1.0], atol=1e-4)
    np.testing.assert_allclose(energy_distance(x, y + 100), [2 * 101 - 4], rtol=1e-4)


def test_the_truth_gets_full_marks_and_the_mean_none():
    data = SyntheticChunks(horizon=4, bimodal=True)
    truth = data.judge(
        lambda _, o, key, g: data.draw(jax.random.fold_in(key, 1), o, g), params=None, seed=0, observations=64
    )
    assert abs(truth["energy distance"]) < 0.02 and truth["near no mode"] == 0 and truth["minority"] > 0.4

    def mean(_, o, key, g):
        return jnp.repeat(data.ways(o).mean(1, keepdims=True), g, axis=1)

    centre = data.judge(mean, None, seed=0, observations=64)
    assert centre["energy distance"] > 0.5 and centre["near no mode"] == 1.0
    assert centre["energy score"] > truth["energy score"]


def test_the_two_ways_are_two_rms_apart_and_smooth():
    ways = SyntheticChunks(16, True).ways(jnp.array([[0.1, 0.5, -0.3]]))
    assert jnp.sqrt(jnp.mean((ways[0, 0] - ways[0, 1]) ** 2)) == pytest.approx(2.0, rel=0.1)
    assert SyntheticChunks(16, False).ways(jnp.zeros((2, 3))).shape == (2, 1, 16, 4)


@pytest.mark.parametrize("toy", toy_2d.TOYS, ids=lambda t: t.name)
def test_toy_targets_are_where_they_should_be(toy):
    points = np.asarray(getattr(toy_2d, toy.target)(jax.random.key(0), 500))
    if toy.target == "bimodal":
        assert np.abs(np.abs(points[:, 0]) - 2).max() < 1.2 and 0.4 < (points[:, 0] > 0).mean() < 0.6
    elif toy.target == "checkerboard":
        assert set((np.floor(points[:, 0]) + np.floor(points[:, 1])).astype(int) % 2) == {0}
    assert np.abs(points).max() < 2.8


def fake(job):
    if isinstance(job, toy_2d.Toy):
        two = np.zeros((4, 2), np.float32)
        return toy_2d.Drifted(job, two, two, two, two, np.array([0, 9]), np.array([1.0, 0.1]))
    steps = trials.FLOW_STEPS if job.objective == "flow matching" else (1,)
    figures = {f"{k} steps": {c: 0.1 * k + job.seed for c in page.COLUMNS} for k in steps}
    drawn = {name: np.zeros((8, job.horizon, 4)) for name in figures}
    return trials.Outcome(job, figures, drawn, seconds={"regression": 2.0}.get(job.objective, 4.0))


def test_the_page_has_every_part(tmp_path):
    study = page.Study(parts=("toys", "chunks", "samples", "temperatures"), seeds=2, steps=1000)
    jobs = study.jobs()
    assert len(jobs) == len(set(jobs))
    results = {job: fake(job) for job in jobs}
    equal = study.jobs_of_equal_time(results)
    assert {(t.objective, t.steps) for t in equal} == {("flow matching", 1000), ("regression", 2000)}
    text = study.write(results | {job: fake(job) for job in equal}, tmp_path)
    assert "| flow matching, 10 steps | 1000 | 1.500 (1.000 - 2.000) |" in text
    for name in ("study.md", "study.json", "toys.png", "ways.png"):
        assert (tmp_path / name).stat().st_size > 100
    assert all(rule in text for rule in trials.RULES)


@pytest.mark.slow
def test_a_trial_learns():
    outcome = trials.run(trials.Trial("drifting", seed=0, steps=400, horizon=4))
    assert outcome.figures["1 step"]["energy distance"] < 0.5 and outcome.seconds > 0
    assert outcome.drawn["1 step"].shape == (64, 4, 4)


@pytest.mark.slow
def test_a_toy_drifts_onto_its_target():
    drifted = toy_2d.run(toy_2d.ANNEALED[0], steps=200)
    assert drifted.energy_distance[-1] < 0.2 * drifted.energy_distance[0]
    assert 0.3 < (drifted.after[:, 0] > 0).mean() < 0.7
