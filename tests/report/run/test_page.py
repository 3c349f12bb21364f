"""The page says what the files say, escapes what it quotes, and stays one file of bounded size."""

import base64
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.report.run import images as pictures
from drifting_vla_jax.report.run.page import write_report
from tests import commands
from tests.report.conftest import episode, write_lines

ROOT = Path(__file__).parents[3]
START = {
    "started": "2026-01-02T03:04:05+00:00",
    "step": 0,
    "code": {"commit": "0123456789abcdef", "dirty": True},
    "packages": {"jax": "9.8.7"},
    "python": "3.11.2",
    "host": "bench",
    "devices": {"kind": "TPU v9", "count": 4, "processes": 2},
    "data": {"source": "metaworld", "episodes": {"train": 6, "val": 2}, "steps": {"train": 1072, "val": 24}},
}


class Page(HTMLParser):
    """The page's text, its tables as rows of cells, and its tags."""

    def __init__(self, path):
        super().__init__()
        self.text, self.rows, self.tags, self._inside = [], [], [], []
        self.source = path.read_text()
        self.feed(self.source)
        self.text = " ".join(" ".join(self.text).split())
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self._inside or "style" in self._inside:
            return
        self.text.append(data)
        if "td" in self._inside or "th" in self._inside:
            self.rows[-1][-1] += data

    def row(self, name):
        """The only row that begins so."""
        (row,) = [row for row in self.rows if row and row[0].split(" ")[0] == name]
        return row[1:]

    def charts(self):
        return json.loads(re.search(r'id="charts">(.*?)</script>', self.source, re.S)[1])


def report(workdir, other=None, **options):
    return Page(write_report(workdir, other, **options)[0])


def test_success_with_intervals_and_endings(make_run, evaluate, ten):
    workdir = make_run()
    evaluate(workdir, ten)
    page = report(workdir)
    # Wilson at 95%: 6 of 10 is 31.3 to 83.2, 10 of 10 is 72.2 to 100 (Brown, Cai, DasGupta 2001)
    assert page.row("reach")[1:] == ["60.0 %", "31.3 to 83.2", "6 / 10", "60.0 %", "5"]
    assert page.row("push")[1:] == ["100.0 %", "72.2 to 100.0", "10 / 10", "100.0 %", "5"]
    assert "Mean over tasks 80.0 %" in page.text
    titles = [a["title"] for tag, a in page.tags if tag == "i" and "title" in a]
    assert titles == ["6 x success", "4 x time limit", "10 x success", "16 x success", "4 x time limit"]


def test_an_ordinary_evaluation_stands_before_those_under_other_conditions(make_run, evaluate, ten):
    workdir = make_run()
    evaluate(workdir, ten)
    evaluate(workdir, ten[:10], name="step4-seed0-words", change="words")
    page = report(workdir)
    assert page.row("push")[1] == "100.0 %" and page.row("step4-seed0-words")[1:3] == ["6 / 10", "60.0 %"]


def test_latency_and_where_time_goes(make_run, evaluate, ten):
    workdir = make_run()
    evaluate(workdir, ten)
    page = report(workdir)
    assert page.row("round") == ["15.0", "20.0", "20.0", "20.0", "40"]
    assert "an episode takes 0.3 s (median), 10 % of it waiting for the policy" in page.text
    # 2 x 3 s + 2 x 1 s; a tenth of it waited; steps at (2.7 + 0.9) / 2 = 1.8 s would be 7.2 s, which is all that is left
    assert page.row("train")[:2] == ["7.2 s", "90.0 %"] and page.row("waiting")[:2] == ["0.8 s", "10.0 %"]


def test_curves_hold_every_metric(make_run):
    groups = report(make_run()).charts()["groups"]
    assert [group["title"] for group in groups] == ["Training", "Held-out episodes"]
    loss = next(chart for chart in groups[0]["charts"] if chart["title"] == "train/loss")
    assert loss["steps"] == [2, 4] and loss["lines"][0]["values"] == [8.0, 4.0] and not loss["log"]
    assert groups[1]["charts"][0]["unit"] == "cm"


def test_parts_of_a_metric_share_a_plot_and_wide_ranges_are_logarithmic(make_run):
    workdir = make_run()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/drift_sq/0.1": 100.0, "train/drift_sq/0.5": NaN}\n')
        file.write('{"step": 4, "train/drift_sq/0.1": 1.0, "train/drift_sq/0.5": 2.0}\n')
        file.write('{"step": 4, "sim/step": 2, "sim/success_rate": 0.5}\n')
    train, _, rollout = report(workdir).charts()["groups"]
    drift = next(chart for chart in train["charts"] if chart["title"] == "train/drift_sq")
    assert [(line["label"], line["values"]) for line in drift["lines"]] == [("0.1", [100, 1]), ("0.5", [None, 2])]
    assert drift["log"]
    assert rollout["charts"][0]["steps"] == [2]  # the step that was evaluated, not the one at which it was known


def test_success_over_training(make_run, evaluate, ten):
    workdir = make_run()
    evaluate(workdir, ten[:10], step=4, name="other-rules", execute=1)
    for step, episodes in ((2, ten[:10]), (4, ten[10:])):
        evaluate(workdir, episodes, step=step, name=f"training-step{step}")
    over = report(workdir).charts()["over"]
    assert over is None  # reach at one step, push at the other: no curve
    for step, solved in ((2, 5), (4, 8)):
        evaluate(workdir, [episode("reach", s, s < solved) for s in range(10)], step, f"later{step}", max_steps=8)
    over = report(workdir).charts()["over"]
    assert over["steps"] == [2, 4] and over["lines"][0]["values"] == [50, 80]
    assert [line["label"] for line in over["lines"]] == ["success", "95% low", "95% high"]


def test_header_of_a_run_that_recorded_itself(make_run):
    workdir = make_run(**{"data.path": "data/some"})
    (workdir / "run.json").write_text(
        json.dumps({"starts": [START | {"ended": "2026-01-02T04:00:00+00:00", "error": ""}]})
    )
    text = report(workdir).text
    for part in (
        "mine finished",
        "4 of 4 steps",
        "0123456789ab, with uncommitted changes",
        "4 x TPU v9 in 2 processes, bench",
        "Python 3.11.2, jax 9.8.7",
        "began 2026-01-02 03:04:05 UTC ended 2026-01-02 04:00:00 UTC",
        "data/some, from metaworld: 6 episodes (1,072 steps) train, 2 episodes (24 steps) val",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("end", "steps", "state", "says"),
    [
        ({}, 9, "running", "unless it was killed; the last metrics are of"),
        ({"ended": "2026-01-02T04:00:00+00:00", "error": ""}, 9, "stopped", "the same training command goes on"),
        ({"ended": "2026-01-02T04:00:00+00:00", "error": "NonFiniteError: at step 3"}, 9, "failed", "at step 3"),
        (None, 4, "finished", "4 of 4 steps"),
        (None, 9, "unknown", "not recorded"),
    ],
)
def test_how_a_run_stands(make_run, end, steps, state, says):
    workdir = make_run(**{"train.steps": steps})
    if end is not None:
        (workdir / "run.json").write_text(json.dumps({"starts": [START | end]}))
    text = report(workdir).text
    assert f"mine {state}" in text and says in text


def test_what_a_run_quotes_is_text_and_nothing_else(make_run, evaluate):
    """Instructions, names and messages come from data sets and robots: none of them becomes markup or script."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
    workdir = make_run(**{"data.path": evil})
    config = json.loads((workdir / "config.json").read_text()) | {"name": evil}
    (workdir / "config.json").write_text(json.dumps(config))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, f"sim/success_rate/{evil}": 0.5}) + "\n")
    video = 'videos/"><b onx=1>.mp4'
    out = evaluate(workdir, [episode(evil, 0, False, outcome=evil, instruction=evil, video=video)])
    (out / "videos").mkdir()
    (out / video).write_bytes(b"film")
    clean, page = report(make_run("clean")), report(workdir, budget=0)
    tags, expected = ([tag for tag, _ in p.tags] for p in (page, clean))
    assert tags.count("script") == expected.count("script") == 4 and not {"img", "b onx"} & set(tags)
    assert [a["src"] for tag, a in page.tags if tag == "video"] == [f"../eval/step4-seed0/{video}"]
    assert not [a for _, a in page.tags for name in a if name.startswith("on")]
    assert evil in page.text  # readable as it was written
    assert any(
        line["label"] == evil for group in page.charts()["groups"] for c in group["charts"] for line in c["lines"]
    )


def test_nothing_is_loaded_from_elsewhere(make_run, evaluate, ten):
    workdir = make_run()
    evaluate(workdir, ten)
    page = report(workdir)
    loaded = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert all(link.startswith(("#", "data:", "../eval/")) for link in loaded)
    assert "url(" not in page.source.partition("<body")[0] and "@import" not in page.source
    assert "Copyright (c) 2022 Leon Sorokin" in page.source


def test_videos_go_inside_until_the_budget_is_spent(make_run, evaluate):
    workdir = make_run()
    lines = [episode("reach", s, True, video=f"videos/{s}.mp4") for s in range(4)]
    out = evaluate(workdir, lines)
    (out / "videos").mkdir()
    for number, size in enumerate((300, 3000, 300)):  # base64: 400, 4000, 400
        (out / "videos" / f"{number}.mp4").write_bytes(bytes(size))
    _, films = write_report(workdir, budget=800)
    assert [film["embedded"] for film in films] == [True, False, True, False]
    page = Page(workdir / "report" / "index.html")
    sources = [a["src"] for tag, a in page.tags if tag == "video"]
    assert base64.b64decode(sources[0].removeprefix("data:video/mp4;base64,")) == bytes(300)
    assert (workdir / "report" / sources[1]).resolve() == out / "videos" / "1.mp4"
    assert "Inside this page: 2 of 4" in page.text and "videos/3.mp4 is gone" in page.text


def test_size_without_videos(make_run, evaluate, ten):
    """Acceptance: at most 5 MB. Half a million optimiser steps at the default cadence are 25,000 lines."""
    workdir = make_run()
    evaluate(workdir, ten)
    lines = [
        {"step": s, "train/step_ms": 1.5, "train/input_wait_share": 0.1, "train/loss": 7 + s / 1e6}
        for s in range(25000)
    ]
    write_lines(workdir / "metrics.jsonl", lines)
    path, _ = write_report(workdir)
    assert path.stat().st_size < 5e6


def test_the_configuration_beside_base(make_run):
    workdir = make_run(**{"train.learning_rate": 0.25, "serve.api_key": "hunter2"})
    page = report(workdir)
    assert page.row("train.learning_rate") == ["0.25", "0.001"]
    assert page.row("env.tasks") == ["reach, push", "drawer-open"]
    assert page.row("train.b1") == ["0.9", ""]
    assert "hunter2" not in page.source and page.row("serve.api_key")[0] == "(set, not shown)"


def test_without_base_nothing_is_marked(make_run, monkeypatch, tmp_path):
    monkeypatch.setattr(config_files, "shipped", lambda: None)
    page = report(make_run())
    assert page.row("train.b1") == ["0.9"] and "configs/base.py is not beside this installation" in page.text


def test_two_runs(make_run, evaluate, ten):
    a, b = make_run("a"), make_run("b", **{"train.learning_rate": 0.25})
    write_lines(
        b / "metrics.jsonl", [{"step": 3, "train/loss": 1.0, "train/step_ms": 9.0, "train/input_wait_share": 0.0}]
    )
    evaluate(a, ten)
    evaluate(b, [episode(e["task"], e["seed"], True) for e in ten])
    page = report(a, b)
    loss = next(c for c in page.charts()["groups"][0]["charts"] if c["title"] == "train/loss")
    assert loss["steps"] == [2, 3, 4]
    assert [(x["label"], x["values"]) for x in loss["lines"]] == [("A", [8, None, 4]), ("B", [None, 1, None])]
    assert [row[2] for row in page.rows if row and row[0] in ("reach A", "B")][:2] == ["60.0 %", "100.0 %"]
    (paired,) = [row for row in page.rows if row[0] == "reach" and len(row) == 8]
    # four episodes that B alone solved: McNemar 2 / 2^4 = 0.125
    assert paired[1:6] == ["6 / 10", "10 / 10", "0", "4", "+40.0 %"] and paired[7] == "0.125"
    assert page.row("train.learning_rate") == ["0.001", "0.25", "0.001"]
    between = re.findall(r'<tr class="between [^"]*"><th scope="row">([^<]*)', page.source)
    assert between == ["name", "train.learning_rate"]


def test_two_runs_that_cannot_be_paired(make_run, evaluate, ten):
    a, b = make_run("a"), make_run("b")
    evaluate(a, ten)
    assert "B No evaluation yet" in report(a, b).text
    evaluate(b, ten, max_steps=8)
    assert "Not compared pair by pair" in report(a, b).text


def test_a_run_that_is_not_evaluated_says_how_to(make_run):
    workdir = make_run("quickstart")
    text = report(workdir).text
    assert f"python -m drifting_vla_jax.main --config=configs/quickstart.py --workdir={workdir} --mode=eval" in text
    assert "Videos come with the first evaluation" in text and "Latency is measured by an evaluation" in text


def test_a_line_that_is_being_written_is_left_out(make_run):
    workdir = make_run()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train/lo')
    assert "4 of 4 steps" in report(workdir).text


def run_command(*flags):
    return commands.run("drifting_vla_jax.report", *flags)


@pytest.mark.slow
def test_bad_input_is_one_line(make_run, tmp_path):
    damaged, fresh = make_run("damaged"), make_run("fresh")
    lines = (damaged / "metrics.jsonl").read_text().splitlines()
    (damaged / "metrics.jsonl").write_text("\n".join([lines[0], lines[1][:9], lines[2]]) + "\n")
    (fresh / "metrics.jsonl").unlink()
    for workdir, says in ((tmp_path / "none", "is no run"), (fresh, "no metrics yet"), (damaged, "line 2 of")):
        result = run_command(f"--workdir={workdir}")
        assert result.returncode != 0 and not result.stdout
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ") and says in line
        assert not (workdir / "report").exists()


@pytest.mark.slow
def test_the_command(make_run):
    workdir = make_run()
    result = run_command(f"--workdir={workdir}")
    assert result.returncode == 0 and str(workdir / "report" / "index.html") in result.stdout


def test_a_figure_that_was_drawn_again_is_shown_again(tmp_path):
    """Also where the new file is the older one: copied from elsewhere with its time."""
    path = tmp_path / "figures" / "A1_drifting_field" / "00000010.png"
    path.parent.mkdir(parents=True)
    seen = []
    for shade in (0, 200, 200):
        Image.new("RGB", (8, 8), (shade,) * 3).save(path)
        os.utime(path, (1, 1))
        seen.append(pictures._webp(path))
    assert seen[0] != seen[1] == seen[2]
    assert len(list((tmp_path / "report/pictures/A1_drifting_field").iterdir())) == 1
