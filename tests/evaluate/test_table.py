"""The table a person reads: every task, the interval, and a word about what is not in the rate."""

from drifting_vla_jax.envs.metaworld.tasks import DIFFICULTY
from drifting_vla_jax.evaluate.statistics import by_group, summarize
from drifting_vla_jax.evaluate.table import format_results, format_sweep

SETTINGS = {
    "checkpoint_step": 800,
    "config_hash": "abc",
    "objective": "drifting",
    "evaluations_per_chunk": 1,
    "hold_steps": 10,
}


def episode(task, success, outcome) -> dict:
    common = {"latched": bool(success), "steps": 31, "round_trip_ms": [4.0], "infer_ms": [2.5]}
    return {"task": task, "success": success, "outcome": outcome, **common}


def row(text: str, name: str) -> str:
    """What stands behind a name, spaces made single."""
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return " ".join(line.removeprefix(name).split())


def test_every_task_has_its_row():
    episodes = [episode("drawer-close", True, "success")] * 20 + [episode("door-open", False, "time_limit")] * 10
    text = format_results(summarize(episodes, SETTINGS))
    assert row(text, "drawer-close") == "20 / 20 100.0 % 83.9 - 100.0 % 100.0 % 31"
    assert row(text, "door-open") == "0 / 10 0.0 % 0.0 - 27.8 % 0.0 % 31"
    assert row(text, "all episodes").startswith("20 / 30 66.7 %")
    assert "mean over tasks 50.0 %" in text and "held for 10 steps" in text
    assert "round trip p50 4.0 ms" in text and "in the network p50 2.5 ms" in text
    assert "drifting at step 800" in text
    assert "other outcomes" not in text and "not counted" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_is_not_in_the_rate_is_said():
    episodes = [episode("a", True, "success"), episode("a", False, "ik"), episode("bb", None, "env_crash")]
    text = format_results(summarize(episodes, SETTINGS))
    assert row(text, "bb").startswith("0 / 0")
    assert "1 x ik in a, 1 x env crash in bb" in text
    assert "not counted above: 1 " in text


def test_nothing_measured_is_still_a_table():
    nothing = episode("a", None, "server_lost") | {"round_trip_ms": [], "infer_ms": []}
    text = format_results(summarize([nothing], SETTINGS))
    assert "mean over tasks -" in text and "round trip" not in text


def test_success_against_the_number_of_actions_executed():
    good = [episode("a", True, "success")] * 20
    bad = [episode("a", False, "time_limit")] * 10 + [episode("b", True, "success")] * 20
    text = format_sweep({1: summarize(good, SETTINGS), 4: summarize(bad, SETTINGS)})
    assert row(text, "      1") == "20 / 20 100.0 % 83.9 - 100.0 % 100.0 % 31 100.0 % 4.0 ms"
    assert row(text, "      4").startswith("20 / 30 66.7 % 48.8 - 80.8 %") and "50.0 %" in row(text, "      4")
    assert max(map(len, text.splitlines())) <= 120


def test_meta_worlds_tasks_are_averaged_by_difficulty_as_its_literature_does():
    """Groups weigh the same however many tasks they have: (3/4 + 0 + 1 + 1) / 4 held."""
    tasks = {"reach": 0.5, "door-open": 1.0, "soccer": 0.0, "push": 1.0, "stick-pull": 1.0}
    episodes = [
        episode(task, i < 2 * rate, "success") | {"latched": True} for task, rate in tasks.items() for i in range(2)
    ]
    results = summarize(episodes, SETTINGS | {"environment": "metaworld"})
    groups = by_group(results, DIFFICULTY)
    assert {name: group["success_rate"] for name, group in groups.items()} == {
        "easy": 0.75, "medium": 0.0, "hard": 1.0, "very hard": 1.0, "average": 0.6875,
    }  # fmt: skip
    assert groups["easy"]["tasks"] == 2 and groups["average"]["latched_rate"] == 1.0
    assert "easy 75.0 % / 100.0 %, medium 0.0 % / 100.0 %" in format_results(results)
    few = summarize([e for e in episodes if e["task"] in ("reach", "soccer")], SETTINGS | {"environment": "metaworld"})
    assert set(by_group(few, DIFFICULTY)) == {"easy", "medium"} and "average" not in format_results(few)
