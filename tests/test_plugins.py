"""A plug-in is known by its own files alone: no other module of the package asks for it by name."""

import ast
from pathlib import Path

import pytest

from drifting_vla_jax.data.sources import SOURCES
from drifting_vla_jax.envs.registry import ENVIRONMENTS
from drifting_vla_jax.models.encoders.registry import ENCODERS
from drifting_vla_jax.objectives.registry import OBJECTIVES

ROOT = Path(__file__).parents[1] / "drifting_vla_jax"
REGISTRIES = {"data/sources/__init__.py", "envs/registry.py", "models/encoders/registry.py", "objectives/registry.py"}
OLD_NAMES = {"config/migration.py", "core/renamed.py"}  # tables of earlier releases
COMPARISONS = {"benchmarks", "studies"}  # rooms whose subject is certain instances, side by side
# Names of other things, too: a kind of tokenizer, padding in others' data, formats that are also exported, a fork of RLBench.
WORDS = {"bytes", "dummy", "lerobot", "peract", "rollouts"}
PLUGINS = {**SOURCES, **OBJECTIVES, **ENVIRONMENTS, **ENCODERS["vision"], **ENCODERS["text"]}


def _owner(name: str, path: str) -> bool:
    """Whether a file is a plug-in's own: its module, or of its folder."""
    module = PLUGINS[name].partition(":")[0].removeprefix("drifting_vla_jax.").replace(".", "/")
    folder = module.rpartition("/")[0]
    return path == f"{module}.py" or (folder.rpartition("/")[2] == name and path.startswith(f"{folder}/"))


def _asked_for(path: Path) -> set[str]:
    """What the code of a file compares with or looks up, and the attributes it reads: ``x == "name"``, ``config.name``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            found |= {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.add(node.slice.value)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.keyword)) and node.value is not None:
            found |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)}
        elif isinstance(node, ast.arguments):
            found |= {n.value for n in [*node.defaults, *node.kw_defaults] if isinstance(n, ast.Constant)}
    return found


@pytest.mark.parametrize("name", sorted(set(PLUGINS) - WORDS))
def test_its_name_occurs_nowhere_else(name):
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        path = str(file.relative_to(ROOT))
        if path in REGISTRIES | OLD_NAMES or path.split("/")[0] in COMPARISONS or _owner(name, path):
            continue
        if name in _asked_for(file):
            found.append(path)
    assert not found, f"{name!r} is asked for by name in {', '.join(found)}"
