"""Reports beside the training: at their cadence, one at a time, never in its way."""

import sys
import time

import jax
import pytest

from drifting_vla_jax.train.monitoring import reports
from tests.small import small_config

STAND_IN = """
import pathlib, sys, time
time.sleep({seconds})
with (pathlib.Path(sys.argv[1].removeprefix("--workdir=")) / "made").open("a") as file:
    file.write("x")
sys.exit({code!r})
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """beside(seconds, code) -> reports every second step, by a stand-in."""

    def beside(seconds=0.0, code=0):
        monkeypatch.setattr(
            reports, "COMMAND", (sys.executable, "-S", "-c", STAND_IN.format(seconds=seconds, code=code))
        )
        config = small_config()
        config.train.report_every = 2
        (tmp_path / "metrics.jsonl").write_text("{}\n")
        return reports.Reports(config, tmp_path)

    return beside


def made(folder) -> int:
    path = folder / "made"
    return len(path.read_text()) if path.exists() else 0


def wait_for(folder, count):
    deadline = time.monotonic() + 20
    while made(folder) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_at_its_cadence_and_at_the_end(beside, tmp_path):
    page = beside()
    page.due(1)
    assert made(tmp_path) == 0
    page.due(2)
    wait_for(tmp_path, 1)
    page.close()
    assert made(tmp_path) == 2


def test_training_does_not_wait_and_one_runs_at_a_time(beside, tmp_path):
    page = beside(seconds=1.0)
    start = time.perf_counter()
    for step in range(1, 9):
        page.due(step)
    assert time.perf_counter() - start < 0.5
    page.close()
    assert made(tmp_path) == 2  # the first, and the last


def test_a_failure_is_said_and_stops_nothing(beside, caplog):
    page = beside(code="error: no room")
    page.due(2)
    page.close()
    assert [record.getMessage() for record in caplog.records] == ["the report was not made: error: no room"] * 2


def test_nothing_to_report_makes_no_report(beside, tmp_path):
    page = beside()
    (tmp_path / "metrics.jsonl").unlink()
    page.due(2)
    page.close()
    assert made(tmp_path) == 0


def test_only_the_first_process_reports(beside, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    page = beside()
    page.due(2)
    page.close()
    assert made(tmp_path) == 0
