"""The notebooks of examples/ run from top to bottom, on less data and for fewer steps, and have no outputs in the repository."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# What a notebook sets in a line of its own, and what is enough to see that it runs.
SMALLER = {
    "02_from_lerobot_to_a_policy": ("EPISODES, STEPS = 600, 1500", "EPISODES, STEPS = 6, 2"),
    "03_act_with_a_policy": ("EPISODES = 20", "EPISODES = 2"),
}


def script(notebook: Path) -> str:
    """The code cells as one program; a line that begins with ! is a command, as in Jupyter."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    line, smaller = SMALLER.get(notebook.stem, ("import", "import"))
    assert line in code
    run = "__import__('subprocess').run"
    return re.sub(
        r"^!(.+)$",
        lambda found: f"{run}({found[1]!r}, shell=True, check=True)",
        code.replace(line, smaller),
        flags=re.M,
    )


@pytest.mark.slow
def test_every_notebook_runs(tmp_path):
    """In order, in one folder: the third loads what the second has trained."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    env["XLA_FLAGS"] = env["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    for notebook in NOTEBOOKS:
        program = tmp_path / f"{notebook.stem}.py"
        program.write_text(script(notebook))
        done = subprocess.run(
            [sys.executable, program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{notebook.name}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def test_notebooks_are_three_and_stripped():
    assert [notebook.name[:2] for notebook in NOTEBOOKS] == ["01", "02", "03"]
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text())["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
