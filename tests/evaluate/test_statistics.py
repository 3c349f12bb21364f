"""Rates that can be done by hand, and Wilson intervals against published values."""

import numpy as np
import pytest

from drifting_vla_jax.evaluate.statistics import summarize, wilson_interval

SETTINGS = {
    "checkpoint_step": 800,
    "config_hash": "abc",
    "objective": "drifting",
    "evaluations_per_chunk": 1,
    "hold_steps": 10,
}


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score, no continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # by hand, z^2 = 3.8415: center 0.69207 / 1.38415 = 0.5, half 1.95996 / 1.38415 sqrt(0.025 + 0.0096) = 0.2634
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0000),
    ],
)
def test_wilson(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_contains_the_rate_and_narrows():
    for n in (1, 7, 50):
        for k in range(n + 1):
            low, high = wilson_interval(k, n)
            assert 0 <= low <= k / n <= high <= 1
            assert (1 - high, 1 - low) == pytest.approx(wilson_interval(n - k, n))
    widths = [np.ptp(wilson_interval(n // 2, n)) for n in (10, 100, 1000)]
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]


def test_wilson_covers_a_known_rate_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [low <= 0.9 <= high for low, high in (wilson_interval(int(k), 50) for k in rng.binomial(50, 0.9, 4000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_wilson_refuses_impossible_counts():
    for successes, n in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
            wilson_interval(successes, n)


def episode(task, success, *, latched=None, steps=10, outcome=None, times=(5.0,)) -> dict:
    return {
        "task": task,
        "success": success,
        "latched": bool(success) if latched is None else latched,
        "steps": steps,
        "outcome": outcome or ("success" if success else "time_limit"),
        "round_trip_ms": list(times),
        "infer_ms": [t / 2 for t in times],
    }


def test_summary_of_two_tasks():
    episodes = [
        *[episode("push", True, steps=10)] * 3,
        episode("push", False, latched=True, steps=30, outcome="ik"),
        *[episode("reach", False, steps=40)] * 2,
        episode("reach", None, outcome="env_crash", times=()),
    ]
    results = summarize(episodes, SETTINGS)
    push, reach, overall = results["tasks"]["push"], results["tasks"]["reach"], results["overall"]
    assert (push["n"], push["successes"], push["success_rate"], push["latched_rate"]) == (4, 3, 0.75, 1.0)
    assert push["mean_steps"] == 15 and push["outcomes"] == {"ik": 1, "success": 3}
    assert (push["low"], push["high"]) == wilson_interval(3, 4)
    assert (reach["n"], reach["success_rate"], reach["unscored"]) == (2, 0.0, 1)
    assert reach["outcomes"] == {"env_crash": 1, "time_limit": 2}
    assert (overall["n"], overall["success_rate"], overall["unscored"]) == (6, 0.5, 1)
    assert overall["mean_over_tasks"] == 0.375  # (0.75 + 0) / 2: every task alike
    assert (overall["low"], overall["high"]) == wilson_interval(3, 6)
    assert {key: results[key] for key in SETTINGS if key != "hold_steps"} == {
        k: v for k, v in SETTINGS.items() if k != "hold_steps"
    }
    assert results["settings"] == SETTINGS


def test_latency_is_over_all_requests_not_over_episodes():
    episodes = [episode("a", True, times=[1.0] * 98), episode("a", True, times=[101.0, 101.0])]
    results = summarize(episodes, SETTINGS)
    assert results["latency_ms"] == {"p50": 1.0, "p95": 1.0} and results["infer_ms"]["p50"] == 0.5


def test_nothing_scored_has_no_rate():
    results = summarize([episode("a", None, outcome="env_crash", times=())], SETTINGS)
    overall = results["overall"]
    assert overall["n"] == 0 and overall["unscored"] == 1
    assert [overall[k] for k in ("success_rate", "low", "high", "mean_over_tasks", "mean_steps")] == [None] * 5
    assert results["latency_ms"] == {"p50": None, "p95": None}
