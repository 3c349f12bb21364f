"""The page of results: three runs of made-up episodes, small enough to check every number by hand."""

import json

import pytest

from drifting_vla_jax.report.results import rates
from drifting_vla_jax.report.results.page import write_results
from tests.report.conftest import episode, write_lines
from tests.report.run.test_page import Page

RULES = {"frame_skip": 4, "max_steps": 125, "hold_steps": 10}


def twenty(reach, push, **changes):
    """Ten episodes of an easy task (or button-press) and ten of a hard one, of which the first so many are solved."""
    return [
        episode(task, seed, seed < solved, **changes)
        for task, solved in (("reach", reach), ("push", push))
        for seed in range(10)
    ]


@pytest.fixture
def runs(make_run, evaluate):
    """Drifting with every kind of condition, flow matching with 1 and 10 evaluations, a regression without a suite."""

    def suite(workdir, parameters, call_ms, rows):
        text = {"checkpoint_step": 4, "objective": "", "parameters": parameters, "call_ms": call_ms}
        text["evaluations"] = [dict(zip(("condition", "evaluations_per_chunk", "folder"), row)) for row in rows]
        (workdir / "eval" / "suite-step4.json").write_text(json.dumps(text))

    def run(name, objective):
        return make_run(name, **{"objective.name": objective, "env.name": "metaworld"})

    rules = RULES | {"environment": "metaworld"}
    ours = run("ours", "drifting")
    evaluate(ours, twenty(9, 4), name="plain", **rules)
    evaluate(ours, twenty(5, 4), name="words", **rules)
    evaluate(ours, twenty(8, 2), name="four", **(rules | {"execute": 4}))
    evaluate(ours, twenty(9, 3), name="late", **rules, execution="async", delay_steps=1)
    rows = [("plain", 1, "plain"), ("words", 1, "words"), ("execute4", 1, "four"), ("late-50ms", 1, "late")]
    rows.append(("camera", 1, "not evaluated yet"))
    suite(ours, {"all": 1200, "trained": 1000}, {"1": {"p50": 3.0, "p95": 4.0}}, rows)
    flow = run("flow", "flow_matching")
    evaluate(flow, twenty(9, 2), name="ten", **rules)
    evaluate(flow, twenty(1, 0), name="one", **rules)
    calls = {"10": {"p50": 7.5, "p95": 9.0}, "1": {"p50": 3.1, "p95": 4.2}}
    suite(flow, {"all": 1200, "trained": 1200}, calls, [("plain", 10, "ten"), ("plain", 1, "one")])
    other = run("other", "regression")
    latched = [episode("reach", 0, True), *(episode("reach", s, False, latched=True) for s in range(1, 10))]
    evaluate(other, latched, name="step4", **rules)
    return ours, flow, other


@pytest.fixture
def made(runs, tmp_path):
    page, text = write_results(runs, tmp_path / "out")
    return Page(page), text.read_text()


def cells(text, title):
    """The rows of a table of the markdown, by their first cells."""
    part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_a_run_says_what_was_trained(made):
    rows = cells(made[1], "Runs")
    assert rows["drifting, ours"][:4] == ["1,000", "1,200", "4 of 4", "64"]
    assert rows["regression, other"][:2] == ["-", "-"]  # nobody counted
    assert rows["drifting, ours"][4] == "0 min"  # 2 steps of 3 s and 2 of 1 s


def test_groups_ours_and_as_published(made):
    held, published = (cells(made[1], f"Success by difficulty: {name}") for name in ("held", "the published protocol"))
    assert held["policy"] == ["easy, 1 of 28 tasks", "hard, 1 of 6 tasks"]  # no mean of groups: two of four are there
    assert held["drifting (1)"] == ["90.0 (59.6 - 98.2)", "40.0 (16.8 - 68.7)"]
    assert held["regression (1)"] == ["10.0 (1.8 - 40.4)", "-"] and published["regression (1)"][0].startswith("100.0 ")
    assert "at most 500 simulator steps" in made[1] and "2 views of 64 px" in made[1]
    assert cells(made[1], "Published")["Evo-1"][1] == "80.6" and "recalled, not checked" in made[1]


def test_tasks(made):
    rows = cells(made[1], "Success by task")
    assert rows["task"] == ["drifting (1)", "flow matching (1)", "flow matching (10)", "regression (1)"]
    assert rows["push"] == [
        "40.0 (16.8 - 68.7), latched 40.0",
        "0.0 (0.0 - 27.8), latched 0.0",
        "20.0 (5.7 - 51.0), latched 20.0",
        "-",
    ]
    assert rows["all episodes"][3] == "10.0 (1.8 - 40.4), latched 100.0"
    (on_page, *_) = [row[1:] for row in made[0].rows if row[0] == "push"]
    assert on_page[0] == "40.0 16.8 to 68.7 latched 40.0" and on_page[3] == "-"


def test_the_same_starts_with_the_latency_beside(made):
    """Two pushes are solved by drifting alone, none by flow matching alone."""
    rows = cells(made[1], "Drifting (1) less the others, start by start")
    assert rows["flow matching (10)"][:5] == ["20", "13", "11", "2", "0"]
    assert rows["flow matching (10)"][5].startswith("+10.0 (") and rows["flow matching (10)"][6] == "0.500"
    assert rows["flow matching (10)"][7].startswith("no difference seen; at most ")
    assert rows["flow matching (10)"][8] == "3.0 / 7.5"
    assert rows["flow matching (1)"][7] == "better"
    assert rows["regression (1)"][0] == "10"  # it met reach alone
    by_task = cells(made[1], "Drifting (1) less the others, start by start: by task")
    assert by_task["push"][1].startswith("+20.0 (") and by_task["push"][2] == "-"


def test_conditions_beside_the_ordinary_evaluation_on_the_same_starts(made):
    changed = cells(made[1], "What no demonstration has shown")
    assert changed["policy"] == ["plain", "words"]  # camera is planned, not evaluated
    assert changed["drifting (1)"][1].startswith("45.0 (25.8 - 65.8), -20.0 (") and len(changed) == 3
    late = cells(made[1], "The world does not wait")
    assert late["drifting (1)"][1].startswith("60.0 (") and "1 step late; -5.0 (" in late["drifting (1)"][1]
    assert "control steps of 50 ms" in made[1]


def test_replan_intervals_as_table_and_curve(made):
    rows = cells(made[1], "Success and how often the policy is asked")
    assert rows["policy"] == ["2", "4"] and rows["drifting (1)"][0].startswith("65.0 (")
    chart = made[0].charts()["groups"][1]["charts"][0]
    assert (chart["steps"], chart["lines"][0]["values"], chart["x"]) == ([2, 4], [65.0, 50.0], "actions")


def test_latency_alone_and_among_simulators(made):
    rows = cells(made[1], "Latency")
    assert rows["flow matching (10)"][:3] == ["10", "7.5", "9.0"]
    assert rows["regression (1)"] == ["1", "-", "-", "6.0", "8.0", "15.0", "20.0"]


def test_equal_steps_and_equal_time(runs, tmp_path):
    """The third run takes 8 s for what the first does in 8 s and goes on for as long again."""
    lines = [json.loads(line) for line in (runs[2] / "metrics.jsonl").read_text().splitlines()]
    more = [{**lines[1], "step": 8, "train/step_ms": 2000.0}, {"step": 8, "val/position_error_cm": 1.0}]
    write_lines(runs[2] / "metrics.jsonl", [*lines, *more])
    _, text = write_results([runs[0], runs[2]], tmp_path / "out")
    rows = cells(text.read_text(), "At equal steps and at equal time")
    assert rows["run"][3:5] == ["at step 4", "after 0 min"]
    assert rows["regression, other"] == ["8", "0 min", "1 / -", "1.25 / -", "1.25 / -", "4", "4"]
    curves = Page(tmp_path / "out" / "index.html").charts()["groups"][0]["charts"]
    assert [(c["title"], c["steps"]) for c in curves] == [
        ("val/position_error_cm, step", [4, 8]),
        ("val/position_error_cm, minutes", [0.13, 0.27]),
    ]
    assert curves[1]["lines"][1] == {"label": "other", "run": 0, "part": 1, "values": [1.25, 1.0]}


def test_the_rotation_is_said_where_something_turns(runs, tmp_path):
    for run, degrees in ((runs[0], 0.01), (runs[2], 5.25)):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 4, "val/rotation_error_deg": degrees}) + "\n")
    _, text = write_results([runs[0], runs[2]], tmp_path / "out")
    assert "position error, cm / rotation error, degrees / energy score" in text.read_text()
    assert cells(text.read_text(), "At equal steps and at equal time")["regression, other"][2] == "1.25 / 5.25 / -"
    titles = [c["title"] for c in Page(tmp_path / "out" / "index.html").charts()["groups"][0]["charts"]]
    assert "val/rotation_error_deg, step" in titles


def test_a_success_and_a_failure_of_each_task_are_shown(runs, tmp_path, evaluate):
    for seed in range(4):
        (runs[2] / "eval" / "step4" / f"{seed}.mp4").write_bytes(b"film %d" % seed)
    ends = enumerate([True, True, False, False])
    lines = [episode("reach", seed, ended, video=f"{seed}.mp4") for seed, ended in ends]
    evaluate(runs[2], lines, name="step4", **RULES, environment="metaworld")
    page = Page(write_results(runs, tmp_path / "out", budget=12)[0])
    shown = [a["src"] for tag, a in page.tags if tag == "video"]
    assert shown == ["data:video/mp4;base64,ZmlsbSAw", "../other/eval/step4/2.mp4"]
    assert "1 of 2 are inside this page" in page.text


def test_what_is_unfinished_or_longer_than_its_results_does_not_count(runs, tmp_path):
    """results.json is of ten episodes per task; an evaluation of more of them has begun."""
    with (runs[0] / "eval" / "plain" / "episodes-1.jsonl").open("a") as file:
        file.write(json.dumps(episode("reach", 10, False)) + "\n")
    _, text = write_results(runs, tmp_path / "out")
    assert cells(text.read_text(), "Success by task")["reach"][0].startswith("90.0 (59.6")


def test_with_all_four_groups_there_is_their_mean(make_run, evaluate, tmp_path):
    """One of ten, three, five and all: 47.5; the first ten of twelve are the published protocol's."""
    solved = {"reach": 1, "hammer": 3, "push": 5, "shelf-place": 12}
    lines = [episode(task, seed, seed < k) for task, k in solved.items() for seed in range(12)]
    evaluate(run := make_run("all"), lines, **RULES, environment="metaworld")
    _, text = write_results([run], tmp_path / "out")
    held, published = (
        cells(text.read_text(), f"Success by difficulty: {name}") for name in ("held", "the published protocol")
    )
    assert held["policy"][-1] == "mean of the groups" and held["drifting (1)"][-1].startswith("43.8 (")  # 21 of 48
    assert published["drifting (1)"][-1].startswith("47.5 (")


def test_the_mean_of_groups_weighs_them_alike():
    """Four rates of which one is uncertain: a quarter of its half-widths is left."""
    sure = rates.Rate(1.0, 1.0, 1.0)
    mean = rates.mean_of([sure, sure, sure, rates.Rate(0.5, 0.1, 0.8)])
    assert (mean.value, round(mean.low, 6), round(mean.high, 6)) == (0.875, 0.775, 0.95)


def test_nothing_to_show_is_one_line(make_run, runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is evaluated yet of .*evaluate.suite --runs="):
        write_results([make_run("new")], tmp_path / "out")
    with pytest.raises(ValueError, match="--runs names a run twice"):
        write_results([runs[0], runs[0]], tmp_path / "out")
    (runs[0] / "eval" / "suite-step4.json").write_text("{")
    with pytest.raises(ValueError, match=r"suite-step4.json is damaged.*; delete it"):
        write_results(runs, tmp_path / "out")


def test_what_files_say_is_escaped(runs, tmp_path, evaluate):
    (runs[2] / "eval" / "step4" / "0.mp4").write_bytes(b"")
    line = episode("reach", 0, True, video="0.mp4", instruction="<script>alert(1)</script>")
    evaluate(runs[2], [line], name="step4", **RULES, environment="metaworld")
    assert "<script>alert" not in write_results(runs, tmp_path / "out")[0].read_text()
