"""The table of a folder that workers have written to."""

import json
import subprocess
import sys
from pathlib import Path

from drifting_vla_jax.rollout import episode_log

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "checkpoint_step": 5,
    "config_hash": "abc",
    "objective": "drifting",
    "evaluations_per_chunk": 1,
    "hold_steps": 1,
}


def command(out: Path) -> subprocess.CompletedProcess:
    run = [sys.executable, "-m", "drifting_vla_jax.evaluate", f"--out={out}"]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60)


def episode(seed: int, success: bool) -> dict:
    return {
        **{"task": "turn_tap", "variation": 0, "seed": seed, "success": success, "latched": success, "steps": 9},
        **{"outcome": "success" if success else "path", "round_trip_ms": [4.0], "infer_ms": [2.0]},
    }


def test_several_workers_files_become_one_table(tmp_path):
    episode_log.claim_folder(tmp_path, SETTINGS)
    episode_log.write_episodes(tmp_path / "episodes-0-of-2.jsonl", [episode(0, True), episode(2, False)])
    episode_log.write_episodes(tmp_path / "episodes-1-of-2.jsonl", [episode(1, True), episode(3, True)])
    done = command(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 / 4" in done.stdout and "1 x path in turn_tap" in done.stdout
    assert json.loads((tmp_path / "results.json").read_text())["overall"]["success_rate"] == 0.75


def test_a_folder_without_episodes_is_an_error_in_a_line(tmp_path):
    done = command(tmp_path / "nothing")
    assert done.returncode == 1 and done.stderr.startswith("error: no episodes in ")
