"""The wheel: built, installed into an empty environment, run from an empty folder; and the version, from one place."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import drifting_vla_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def ran(*command: object, cwd: Path, **env: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """What the wheel is made from, apart, so that nothing is written into the source tree."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("drifting_vla_jax", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    ran(*pip, "--wheel-dir", out, source, cwd=out)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package_and_the_configurations(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path.relative_to(ROOT) for name in ("drifting_vla_jax", "configs") for path in (ROOT / name).rglob("*.*")]
    files = {str(path) for path in files if "__pycache__" not in path.parts}
    assert packed == {name if name.startswith("drifting") else f"drifting_vla_jax/{name}" for name in files}


@pytest.mark.slow
def test_an_installed_wheel_finds_its_configurations_from_any_folder(wheel, tmp_path):
    """``pip install`` into an environment of its own; the packages that it needs are those of this environment."""
    ran(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python, site = tmp_path / "venv/bin/python", sysconfig.get_path("purelib")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    ran(*pip, wheel, cwd=tmp_path)
    (tmp_path / "away").mkdir()
    # Behind the environment's own packages, so that the installed wheel is what runs.
    (next((tmp_path / "venv/lib").glob("python*/site-packages")) / "needed.pth").write_text(site)
    code = "import drifting_vla_jax as d; print(d.__file__, d.__version__)\n"
    code += "from drifting_vla_jax.config import files as c; print(c.load('quickstart').name)"
    file, version, name = ran(python, "-c", code, cwd=tmp_path / "away").split()
    assert Path(file).is_relative_to(tmp_path / "venv")
    assert (version, name) == (PROJECT["version"], "quickstart")
    describe = (python, "-m", "drifting_vla_jax.main", "--config=quickstart", "--mode=describe")
    assert ran(*describe, cwd=tmp_path / "away").startswith("MODULES\n")


def test_the_version_of_a_source_tree_is_that_of_its_project_file(source):
    """Without an installed package: ``-S`` leaves site-packages out."""
    said = ran(sys.executable, "-S", "-c", "import drifting_vla_jax as d; print(d.__version__)", cwd=source)
    assert said.strip() == PROJECT["version"]
    assert drifting_vla_jax.__version__.split(".")[:2] == PROJECT["version"].split(".")[:2]


def test_hooks_check_with_the_versions_that_the_environment_has():
    """pyright is not a part of the environment."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    pins = {pin.lower().replace("-", "_") for pin in (ROOT / "constraints.txt").read_text().splitlines()}
    asked = {hook["id"]: pin.replace("-", "_") for hook in hooks for pin in hook["additional_dependencies"]}
    assert {name for name, pin in asked.items() if pin not in pins} == {"pyright"} and len(asked) == 6


def test_every_target_of_make_starts_a_script_and_the_workflow_asks_for_no_other():
    """Read as text: a machine that runs the tests need not have ``make``."""
    recipes = dict(re.findall(r"^(\w+):\n\t(.+)$", (ROOT / "Makefile").read_text(), re.M))
    assert all((ROOT / re.search(r"launch/\w+\.sh", recipe)[0]).is_file() for recipe in recipes.values())
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert set(workflow["jobs"]["checks"]["strategy"]["matrix"]["target"]) == {"lint", "fast", "docs"} <= set(recipes)
