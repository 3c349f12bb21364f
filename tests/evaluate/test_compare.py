"""Paired comparison against published and hand-made numbers."""

import json

import pytest

from drifting_vla_jax.evaluate.compare import Paired, compare, format_comparison
from drifting_vla_jax.rollout import episode_log


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:2635, method 10; there the difference is "first - second".
        (Paired(both=36, only_b=12, only_a=2, neither=0), 0.0569, 0.3404),
        (Paired(both=20, only_b=12, only_a=2, neither=16), 0.0562, 0.3290),
    ],
)
def test_newcombes_interval(table, low, high):
    assert table.n == 50 and table.difference == pytest.approx(0.2)
    assert table.interval() == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


def test_the_interval_has_width_where_both_always_succeed_and_turns_with_the_order():
    low, high = Paired(both=20).interval()
    assert low < 0 < high and low == -high
    a, b = Paired(5, 1, 7, 7), Paired(5, 7, 1, 7)
    assert a.interval() == pytest.approx(tuple(-x for x in reversed(b.interval())))


def test_mcnemar():
    assert Paired(both=9, neither=3).p_value() == 1
    assert Paired(only_b=5).p_value() == pytest.approx(2 / 2**5)  # five coins fall alike, on either side
    assert Paired(only_a=1, only_b=7).p_value() == pytest.approx(2 * (1 + 8) / 2**8)


def folder(path, outcomes: dict, **changes):
    episode_log.claim_folder(path, {"environment": "dummy", "max_steps": 9, "hold_steps": 2} | changes)
    lines = [{"task": t, "variation": 0, "seed": s, "success": ok} for (t, s), ok in outcomes.items()]
    episode_log.write_episodes(path / "episodes.jsonl", lines)
    return path


def test_only_episodes_of_both_that_say_something_count(tmp_path):
    a = folder(tmp_path / "a", {("x", 0): True, ("x", 1): False, ("x", 2): None, ("y", 0): True, ("y", 9): True})
    b = folder(tmp_path / "b", {("x", 0): True, ("x", 1): True, ("x", 2): True, ("y", 0): False})
    groups = compare(a, b)
    assert groups["x"] == Paired(both=1, only_b=1) and groups["y"] == Paired(only_a=1)
    assert groups["all episodes"] == Paired(1, 1, 1, 0)
    text = format_comparison(groups)
    assert "all episodes" in text and "2 / 3" in text and "+0.0 %" in text


def test_what_cannot_be_compared_is_refused(tmp_path):
    a = folder(tmp_path / "a", {("x", 0): True})
    with pytest.raises(FileNotFoundError, match="is no evaluation"):
        compare(a, tmp_path / "none")
    with pytest.raises(ValueError, match="hold_steps 2, .* has 5: not comparable"):
        compare(a, folder(tmp_path / "b", {("x", 0): True}, hold_steps=5))
    with pytest.raises(ValueError, match="no episode .* in common"):
        compare(a, folder(tmp_path / "c", {("x", 1): True}))
    assert json.loads((a / "settings.json").read_text())["hold_steps"] == 2
