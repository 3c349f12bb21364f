"""Which module may import which: the floors of the house, read from the import graph."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "drifting_vla_jax"
PEERS = ROOT.parent / "tests" / "benchmarks" / "peers"  # scripts that other Pythons run
PACKAGE = "drifting_vla_jax"
LIGHT_GROUND = {"core", "hints", "layouts"}  # importable from everywhere, by a simulator's process too
CONFIG = {"config", "config_checks", "config_ranges"}
GROUND = LIGHT_GROUND | CONFIG | {"config_files", "types", "cli"}
MAY_IMPORT = {
    "": set(),
    "core": {"hints"},
    "layouts": set(),
    "types": LIGHT_GROUND,
    **dict.fromkeys(CONFIG, LIGHT_GROUND | CONFIG | {"types", "envs", "rollout"}),
    "cli": LIGHT_GROUND,
    "config_files": LIGHT_GROUND | CONFIG,
    "hints": set(),
    "envs": LIGHT_GROUND,
    "wire": LIGHT_GROUND,
    "objectives": GROUND,
    "figures": set(),
    "data": GROUND | {"envs"},
    "models": GROUND | {"data"},
    "train": GROUND | {"data", "figures", "models", "objectives"},
    "policy": GROUND | {"data", "models", "objectives", "train", "wire"},
    "serve": LIGHT_GROUND | {"wire"},
    "rollout": LIGHT_GROUND | {"envs", "wire"},
    "evaluate": LIGHT_GROUND | {"envs", "rollout", "serve", "wire"},
    "report": LIGHT_GROUND | {"cli", "config_files", "data", "envs", "evaluate", "figures", "rollout"},
    "benchmarks": GROUND | {"data", "models", "objectives", "train", "policy", "serve", "wire"},
    "main": GROUND | {"train", "policy", "serve", "evaluate", "report", "rollout"},
}
COMMANDS = {
    "data/cache_features.py": {"models"},
    "rollout/robot_command.py": {"cli"},
    "evaluate/__main__.py": {"cli"},
    "evaluate/compare.py": {"cli"},
    "evaluate/checkpoint.py": {"cli", "config", "config_checks", "policy"},
    "evaluate/suite.py": {"cli", "config", "policy"},
    "envs/rlbench_check.py": {"cli"},
    "rollout/worker.py": {"cli"},
}  # of a lower floor by what they write, of a higher one by what they run
LIGHT = ("core", "envs", "wire", "rollout", "")
HEAVY = {"jax", "flax", "optax", "orbax", "tensorflow", "torch", "tensorflow_datasets", "grain"}


def _modules():
    return sorted(ROOT.rglob("*.py"))


def _floor(path: Path) -> str:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if part == "__init__" else part


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_folder_has_a_floor():
    assert {_floor(path) for path in _modules()} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    for name in _imports(path):
        parts = name.split(".")
        if (
            parts[0] == PACKAGE
            and len(parts) > 1
            and (ROOT / parts[1]).with_suffix("").exists() | (ROOT / f"{parts[1]}.py").exists()
        ):
            more = COMMANDS.get(str(path.relative_to(ROOT)), set())
            allowed = MAY_IMPORT[_floor(path)] | {_floor(path)} | more
            assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}, which is not below it"


def test_modules_import_each_other_in_no_circle():
    graph = {}
    for path in _modules():
        name = ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {i for i in _top_level_imports(path) if i.startswith(PACKAGE + ".")}
    seen, open_ = set(), []

    def visit(name):
        assert name not in open_, f"import circle: {' -> '.join([*open_[open_.index(name) :], name])}"
        if name in seen or name not in graph:
            return
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        seen.add(open_.pop())

    for name in sorted(graph):
        visit(name)


def _top_level_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", [p for p in _modules() if _floor(p) in LIGHT], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_rollout_side_names_no_learner_package(path):
    assert not {name.split(".")[0] for name in _imports(path)} & HEAVY


def test_torch_is_imported_nowhere():
    assert not [path for path in _modules() if "torch" in {name.split(".")[0] for name in _imports(path)}]


def test_the_scripts_of_peers_stand_outside():
    """They are no package; they know nothing of this project, whose libraries they lack."""
    scripts = sorted(PEERS.glob("*.py"))
    assert scripts and not (PEERS / "__init__.py").exists()
    assert not [path for path in scripts if PACKAGE in {name.split(".")[0] for name in _imports(path)}]


def test_a_worker_and_a_client_load_nothing_heavy():
    """Transitively too: what the light modules import must not pull the learner in."""
    code = (
        "import sys, drifting_vla_jax.rollout.worker, drifting_vla_jax.wire.client, drifting_vla_jax.envs.dummy\n"
        "import drifting_vla_jax.rollout.robot_command\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert out.stdout.strip() == "[]"


def test_a_report_is_made_without_the_learner():
    code = f"import sys, drifting_vla_jax.report.page\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert out.stdout.strip() == "[]"
