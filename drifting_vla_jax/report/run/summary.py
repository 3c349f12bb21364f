"""What a run is and how it stands: header, where the time went, the configuration beside configs/base.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.report.run.reader import Run, flatten, objective_title

SECRET = ("serve.api_key",)  # a report is sent around
UNKNOWN = "not recorded: the run is older than run.json"


def summary(config: dict[str, Any]) -> str:
    """One sentence from the configuration."""
    tasks, cameras, horizon = config["env.tasks"], config["env.cameras"], config["action.horizon"]
    objective = objective_title(config)
    return (
        f"{objective[:1].upper()}{objective[1:]} on {_count(len(tasks), 'task')} of {config['env.name']}: "
        f"{_count(len(cameras), 'camera view')} of {config['env.image_size']} px and an instruction in, "
        f"chunks of {_count(horizon, 'action')} out; image encoder {config['model.vision.name']}, "
        f"text encoder {config['model.text.name']}"
    )


def state(run: Run) -> tuple[str, str]:
    """(finished | failed | stopped | running | unknown, a sentence)."""
    done, asked, last = run.steps, run.config["train.steps"], run.starts[-1] if run.starts else {}
    steps = f"{done:,} of {asked:,} steps"
    if last.get("error") and not last["error"].startswith("KeyboardInterrupt"):
        return "failed", f"{steps}; {last['error']}"
    if done >= asked:
        return "finished", steps
    if not last:
        return "unknown", f"{steps}; whether it still runs is {UNKNOWN}"
    if "ended" in last:
        return "stopped", f"{steps}; the same training command goes on from the last checkpoint"
    logged = datetime.fromtimestamp((run.workdir / "metrics.jsonl").stat().st_mtime, UTC)
    return "running", f"{steps}, unless it was killed; the last metrics are of {_time(logged.isoformat())}"


def header(run: Run) -> list[tuple[str, str]]:
    """Names and values, in reading order."""
    first, last = (run.starts[0], run.starts[-1]) if run.starts else ({}, {})
    rows = [("run", f"{run.config['name']}, {run.workdir}"), ("objective", run.config["objective.name"])]
    rows.append(("data", _data(run, last)))
    if not run.starts:
        return [*rows, ("code, devices, times", UNKNOWN)]
    code, devices = last["code"], last["devices"]
    changed = ", with uncommitted changes" if code and code["dirty"] else ""
    rows.append(("commit", f"{code['commit'][:12]}{changed}" if code else "no git checkout"))
    hosts = f" in {devices['processes']} processes" if devices["processes"] > 1 else ""
    rows.append(("device", f"{devices['count']} x {devices['kind']}{hosts}, {last['host']}"))
    packages = ", ".join(f"{name} {version}" for name, version in last["packages"].items())
    rows.append(("versions", f"Python {last['python']}, {packages}"))
    again = "" if len(run.starts) == 1 else f", started {len(run.starts)} times, last {_time(last['started'])}"
    rows.append(("began", _time(first["started"]) + again))
    if "ended" in last:
        rows.append(("ended", _time(last["ended"])))
    return rows


def _data(run: Run, start: dict) -> str:
    path = " + ".join(run.config.get("data.mixture.paths", ())) or run.config["data.path"]
    if not start:
        return path
    data = start["data"]
    splits = [f"{_count(n, 'episode')} ({data['steps'][name]:,} steps) {name}" for name, n in data["episodes"].items()]
    return f"{path}, from {data['source']}: {', '.join(splits)}"


def slowest_parts(run: Run) -> list[dict[str, Any]]:
    """Where the training's time went, slowest first: {"name", "seconds", "share", "note"}.

    A logged window covers all that happens between two lines; what its steps take beyond the median step is the rest.
    """
    step_ms, wait = run.metrics["train/step_ms"], run.metrics["train/input_wait_share"]
    lengths = _windows(run)
    total = sum(step_ms[step] * length for step, length in lengths.items()) / 1e3
    waiting = sum(wait[step] * step_ms[step] * length for step, length in lengths.items()) / 1e3
    typical = median(step_ms[step] * (1 - wait[step]) for step in step_ms)
    steps = sum(lengths.values())
    computing = min(typical * steps / 1e3, total - waiting)
    parts = [
        ("train steps", computing, f"{steps:,} steps, median {typical:.1f} ms each"),
        ("waiting for input", waiting, "the data pipeline was not ready"),
        ("all else", total - waiting - computing, "compilation, validations, checkpoints"),
    ]
    rows = [{"name": n, "seconds": s, "share": s / total if total else 0.0, "note": note} for n, s, note in parts]
    return sorted(rows, key=lambda row: -row["seconds"])


def _windows(run: Run) -> dict[int, int]:
    """{logged step: steps since the line before}; lines come every ``log_every`` steps."""
    logged = run.metrics.get("train/step_ms", {})
    first = max(0, min(logged, default=0) - run.config["train.log_every"])
    return {step: step - before for before, step in zip([first, *logged], logged)}


def clock(run: Run) -> dict[int, float]:
    """{logged step: minutes of training until then}, time between two starts left out."""
    minutes, passed = {}, 0.0
    for step, length in _windows(run).items():
        passed += length * run.metrics["train/step_ms"][step] / 60e3
        minutes[step] = passed
    return minutes


def minutes_at(run: Run, step: int) -> float | None:
    """By the last line at or before ``step``; None before the first."""
    return next((minutes for logged, minutes in reversed(clock(run).items()) if logged <= step), None)


def episode_time(run: Run) -> str:
    """Where an evaluation's time goes: simulator or policy."""
    episodes = [e for e in run.newest.episodes if e.get("seconds")] if run.newest else []
    if not episodes:
        return ""
    asked = sum(sum(e["round_trip_ms"]) for e in episodes) / 1e3
    seconds = [e["seconds"] for e in episodes]
    return f"an episode takes {median(seconds):.1f} s (median), {100 * asked / sum(seconds):.0f} % of it waiting for the policy"


def config_rows(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], bool]:
    """({"key", "values" per run, "base", "changed": per run from base, "between": runs differ} per key, base known?)."""
    base = _base()
    rows = []
    for key in dict.fromkeys(key for run in runs for key in run.config):
        values = [run.config.get(key) for run in runs]
        shown = [_shown(key, run.config) for run in runs]
        rows.append(
            {"key": key, "values": shown, "base": _shown(key, base)}
            | {"changed": [key in base and key in run.config and run.config[key] != base[key] for run in runs]}
            | {"between": any(value != values[0] for value in values)}
        )
    return rows, bool(base)


def _base() -> dict[str, Any]:
    """The project's configs/base.py; nothing where the package was copied without it."""
    if not config_files.shipped():
        return {}
    return flatten(json.loads(config_files.load("base").to_json()))


def _shown(key: str, config: dict[str, Any]) -> str:
    if key not in config:
        return ""
    if key in SECRET and config[key]:
        return "(set, not shown)"
    value = config[key]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "()"
    return value or '""' if isinstance(value, str) else json.dumps(value)


def evaluation_command(run: Run) -> str:
    """What makes the evaluation that a page lacks."""
    name = run.config["name"]
    config = f"configs/{name}.py" if name in config_files.known() else "configs/NAME.py"
    return f"python -m drifting_vla_jax.main --config={config} --workdir={run.workdir} --mode=eval"


def _time(stamp: str) -> str:
    return datetime.fromisoformat(stamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
