"""Which module may import which: the floors of the package, held against the import graph.

FLOORS is the one list: CONTRIBUTING.md shows it (``test_contributing_shows_the_floors``). Every import counts, those inside
functions too; only those under ``if TYPE_CHECKING`` do not, for they never run.
"""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "drifting_vla_jax"
ROOT = Path(__file__).parents[1] / PACKAGE
PEERS = ROOT.parent / "tests" / "benchmarks" / "peers"  # scripts that other Pythons run

# Lowest first. A room imports rooms of lower floors and itself.
FLOORS = (
    {
        "core": "files, command lines, registries, rotations, episodes: what a simulator's process and the learner share",
    },
    {
        "figures": "plots of arrays",
        "types": "the axis legend, the pytrees of a batch",
        "envs": "simulators behind one interface",
        "wire": "messages between robot and policy, the client",
    },
    {
        "objectives": "losses and samplers: drifting, flow matching, regression",
        "models": "encoders, fusion, the diffusion transformer; pretrained weights",
        "rollout": "one process, one simulator: episodes through the socket",
    },
    {"config": "settings of every section: read, checked, saved"},
    {
        "serve": "the policy server: batching, limits, metrics",
    },
    {
        "data": "sources in, training batches out",
        "robot": "a real arm: limits, watchdog, operator",
        "studies": "experiments with the objective alone",
    },
    {"train": "state, sharding, step, checkpoints, loop, monitoring"},
    {"policy": "from a checkpoint or an export to actions"},
    {"evaluate": "success rates with intervals", "aot": "memory, FLOPs and collectives without running"},
    {"report": "pages from the files of a run or a data set", "benchmarks": "timings beside peers"},
    {"main": "the command: train, serve, evaluate, export, describe, compile"},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
LIGHT = ("core", "envs", "wire", "rollout", "robot", "__init__")
HEAVY = {"jax", "flax", "optax", "orbax", "tensorflow", "torch", "tensorflow_datasets", "grain"}


def _modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def _room(name: str) -> str:
    return (name.split(".") + ["__init__"])[1]


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _nodes(tree: ast.AST):
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not _only_for_types(child):
            yield from _nodes(child)


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    """Names of all imported modules, and of what is imported from them."""
    names = set()
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@functools.cache
def _graph() -> dict[str, set[str]]:
    """{module: modules of ours that it imports}; a package's ``__init__`` counts where something is taken from it."""
    ours = {_name(path): path for path in _modules()}
    graph = {}
    for name, path in ours.items():
        found = {other for other in _imports(path) if other in ours and other != name}
        deeper = {other for other in found if any(more.startswith(f"{other}.") for more in _imports(path))}
        graph[name] = {o for o in found if o not in deeper or _takes_from_init(path, o, ours)}
    return graph


def _takes_from_init(path: Path, package: str, ours: dict[str, Path]) -> bool:
    return any(other.rpartition(".")[0] == package and other not in ours for other in _imports(path))


def test_every_room_has_a_floor():
    rooms = {_room(_name(path)) for path in _modules()} - {"__init__", "__main__"}
    assert rooms == set(HEIGHT)


def test_no_import_goes_up():
    wrong = []
    for name, others in _graph().items():
        for other in others:
            mine, its = _room(name), _room(other)
            if (
                mine != its and its != "__init__" and HEIGHT[its] >= HEIGHT.get(mine, 1)
            ):  # the package's own __init__: core
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_modules_import_each_other_in_no_circle():
    graph, done, open_ = _graph(), set(), []

    def visit(name):
        assert name not in open_, f"import circle: {' -> '.join([*open_[open_.index(name) :], name])}"
        if name in done:
            return
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        done.add(open_.pop())

    for name in sorted(graph):
        visit(name)


def test_contributing_shows_the_floors():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    assert floors_table() in text, (
        f"CONTRIBUTING.md has other floors than this test; put this into it:\n\n{floors_table()}"
    )


def floors_table() -> str:
    """The list as CONTRIBUTING.md shows it, highest floor first."""
    rows = [f"    {room:11}{text}" for rooms in reversed(FLOORS) for room, text in rooms.items()]
    return "\n".join(rows)


@pytest.mark.parametrize("room", LIGHT)
def test_the_rollout_side_names_no_learner_package(room):
    paths = [path for path in _modules() if _room(_name(path)) == room]
    assert paths
    assert not [path for path in paths if {name.split(".")[0] for name in _imports(path)} & HEAVY]


def test_torch_is_imported_nowhere():
    assert not [path for path in _modules() if "torch" in {name.split(".")[0] for name in _imports(path)}]


def test_the_scripts_of_peers_stand_outside():
    """They are no package; they know nothing of this project, whose libraries they lack."""
    scripts = sorted(PEERS.glob("*.py"))
    assert scripts and not (PEERS / "__init__.py").exists()
    assert not [path for path in scripts if PACKAGE in {name.split(".")[0] for name in _imports(path)}]


def test_a_worker_a_client_and_an_arm_load_nothing_heavy():
    """Transitively too: what the light modules import must not pull the learner in."""
    code = (
        "import sys, drifting_vla_jax.rollout.worker, drifting_vla_jax.wire.client, drifting_vla_jax.envs.dummy\n"
        "import drifting_vla_jax.robot.__main__\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert out.stdout.strip() == "[]"


def test_a_report_is_made_without_the_learner():
    code = f"import sys, drifting_vla_jax.report.run.page\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert out.stdout.strip() == "[]"


if __name__ == "__main__":
    print(floors_table())
