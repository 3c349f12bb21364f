"""A table says what was measured, a goal whether it was met, and nothing is left out silently."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from drifting_vla_jax.benchmarks import machine
from drifting_vla_jax.benchmarks.results import Report, contest_table, goal
from drifting_vla_jax.benchmarks.timing import Comparison, Measured, Skipped, compiled, contest, measure

SLOW, FAST = Measured("slow", (4.0, 6.0, 20.0), samples=2), Measured("fast", (2.0, 2.0, 10.0), flops=10**9, samples=4)
FOUND = Comparison("Work", (SLOW, FAST), (Skipped("third", "does not install"),), (0.5, 1.0))


def test_a_speed_up_is_the_median_of_paired_rounds():
    """Rounds of 4, 6, 20 against 2, 2, 10: twice, three times, twice as fast; and twice the samples in each."""
    assert FAST.speedup_over(SLOW) == 2.0 and FAST.rate_over(SLOW) == 4.0 and SLOW.median_s == 6.0
    with pytest.raises(KeyError, match="does not install"):
        FOUND["third"]


def test_the_table_has_every_row_and_every_reason():
    text = contest_table(FOUND, "fast")
    assert "Work (3 rounds in turn; load 0.5 before, 1.0 after)" in text
    assert "| slow | 6,000 | 4,000 - 20,000 | 0.333 | 4.00 x |" in text
    assert "third: not measured: does not install" in text


def test_goals_are_met_missed_or_have_a_reason():
    goals = [
        goal("faster", 1.5, lambda: FAST.speedup_over(SLOW)),
        goal("smaller", 1.0, lambda: 3.0, at_most=True),
        goal("beside the third", 1.0, lambda: FAST.speedup_over(FOUND["third"])),
    ]
    assert [g.met for g in goals] == [True, False, None]
    text = Report([(FOUND, "fast")], {"Figures": [["a", "b"], ["1", "2"]]}, goals).markdown()
    assert "| faster | >= 1.5 | 2 | met |" in text and "| smaller | <= 1 | 3 | missed |" in text
    assert "| beside the third | >= 1 | - | not measured: third: does not install |" in text
    assert "Figures\n\n| a | b |\n|---|---|\n| 1 | 2 |" in text


def test_the_json_has_every_single_time():
    report = json.loads(json.dumps(Report([(FOUND, "fast")]).json()))
    (found,) = report["contests"]
    assert found["rows"][0]["run_s"] == [4.0, 6.0, 20.0] and found["reference"] == "fast"
    assert found["absent"] == [{"name": "third", "reason": "does not install"}]


def test_measuring_compiles_first_and_runs_every_function_in_turn():
    rows = measure({"a": lambda x: x + 1, "b": lambda x: x @ x}, (jnp.ones((8, 8)),), rounds=3)
    assert [row.name for row in rows] == ["a", "b"]
    assert all(len(row.run_s) == 3 and min(row.run_s) > 0 and row.compile_s > 0 for row in rows)


def test_the_share_of_the_peak_counts_operations():
    """A product of twice the operations in four times the seconds has half the speed."""
    peak, row = Measured("peak", (1.0, 2.0), flops=100), Measured("row", (4.0, 8.0), flops=200)
    assert machine.peak_share(row, peak) == 0.5


def test_the_machine_multiplies(monkeypatch):
    monkeypatch.setitem(machine.SHAPES, jax.default_backend(), ((32, 16, 8), (16, 16, 16)))
    product = machine.matrix_product("float32", rounds=1)
    found = contest("", [product, compiled("sum", jnp.sum, (jnp.ones(4),))], rounds=2)
    assert found.rows[0].flops in (2 * 32 * 16 * 8, 2 * 16**3) and math.isfinite(
        machine.peak_share(*found.rows[:1] * 2)
    )
    assert machine.mfu(found.rows[0]) is None  # nobody published a peak of this device
    assert f"jax {jax.__version__}" in machine.describe() and machine.memory_mb() > 50
