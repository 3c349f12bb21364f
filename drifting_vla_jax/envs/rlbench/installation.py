"""Which RLBench is installed, found by looking at it: its version number says 1.2.0 in both forks.

                                       arm planner takes          action    tasks of PerAct's 18
    stepjam      stepjam/RLBench       pose                       8 wide    15
    peract       MohitShridhar/RLBench pose, ignore_collisions    9 wide    18, and wrote the published data

PyRep is CoppeliaSim in this process: its compiled part is linked to libcoppeliaSim.so, which the dynamic loader looks
for in the LD_LIBRARY_PATH that the process was started with, and its windows need an X display, headless or not.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from drifting_vla_jax.envs.base import EnvCrashError

PYREP = "pyrep @ git+https://github.com/stepjam/PyRep.git@8f420be8064b1970aae18a9cfbc978dfb15747ef"
FORKS = {
    "stepjam": "rlbench @ git+https://github.com/stepjam/RLBench.git@02720bba4c73fe02eb75df946b8791b806028a9d",
    "peract": "rlbench @ git+https://github.com/MohitShridhar/RLBench.git@ad991951bc53e4f3b73b803a75cf4b7d55295cf7",
}
HELP = (
    "docker/rollout.Dockerfile has CoppeliaSim 4.1.0, PyRep and RLBench together (docs/how-to/use-rlbench.md); by hand, with "
    f"COPPELIASIM_ROOT set: pip install -e '.[rlbench]' '{PYREP}' and pip install --no-deps '{FORKS['peract']}'. "
    "The pyrep of PyPI is another program, and there is no rlbench there"
)


@dataclass(frozen=True)
class RLBenchInstallation:
    """The parts of RLBench and PyRep that the adapter uses.

    Attributes:
      fork: one of ``FORKS``, by behaviour.
      action_width: 8, or 9 where the last number says whether planning may ignore collisions.
      tasks: names of the installed tasks.
      refusals: exceptions that say an arm cannot go where it is told.
      crashes: exceptions of a simulator that failed.
      ik: whether the arm can be moved by inverse kinematics alone.
      modules: what is imported, by its last name.
    """

    fork: str
    action_width: int
    tasks: tuple[str, ...]
    refusals: tuple[type[Exception], ...]
    crashes: tuple[type[Exception], ...]
    ik: bool
    modules: Mapping[str, ModuleType]

    def __getattr__(self, name: str) -> ModuleType:
        if name.startswith("__") or name not in self.modules:
            raise AttributeError(name)
        return self.modules[name]

    def task_class(self, task: str) -> Any:
        """The class of an installed task."""
        return self.modules["utils"].name_to_task_class(task)


_MODULES = (
    *("rlbench.environment", "rlbench.observation_config", "rlbench.utils", "rlbench.tasks"),
    *("rlbench.action_modes.action_mode", "rlbench.action_modes.arm_action_modes"),
    *("rlbench.action_modes.gripper_action_modes", "rlbench.backend.exceptions", "pyrep.errors"),
    "pyrep.objects.vision_sensor",
)


def find() -> RLBenchInstallation:
    """Imports the installed RLBench and looks at it.

    Raises:
      ModuleNotFoundError, ImportError: it, or the simulator's library, is not there; the message says what to do.
      EnvCrashError: the simulator has nowhere to run: no COPPELIASIM_ROOT, no display.
    """
    _check_place()
    modules = {name.rpartition(".")[2]: _import(name) for name in _MODULES}
    arms, errors = modules["arm_action_modes"], modules["errors"]
    planner = inspect.signature(arms.EndEffectorPoseViaPlanning.action).parameters
    per_action = "ignore_collisions" in planner
    refused = modules["exceptions"]
    return RLBenchInstallation(
        fork="peract" if per_action else "stepjam",
        action_width=9 if per_action else 8,
        tasks=tuple(sorted(module.name for module in pkgutil.iter_modules(modules["tasks"].__path__))),
        refusals=(
            refused.InvalidActionError,
            errors.IKError,
            errors.ConfigurationPathError,
            errors.ConfigurationError,
        ),
        # What PyRep raises of a failed call is a bare RuntimeError.
        crashes=(RuntimeError, *_exceptions(errors), *_exceptions(refused)),
        ik=hasattr(arms, "EndEffectorPoseViaIK"),
        modules=modules,
    )


def _exceptions(module: ModuleType) -> list[type[Exception]]:
    return [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]


def _check_place() -> None:
    root = os.environ.get("COPPELIASIM_ROOT", "")
    if not root or not Path(root).is_dir():
        said = f"COPPELIASIM_ROOT is {root!r}, which is no folder" if root else "COPPELIASIM_ROOT is not set"
        raise EnvCrashError(f"{said}; expected where CoppeliaSim 4.1.0 was unpacked. {HELP}")
    if not os.environ.get("DISPLAY"):
        raise EnvCrashError(
            "DISPLAY is not set; CoppeliaSim renders through X even without a window: start the command under "
            "xvfb-run -a, or use docker/rollout.Dockerfile, which does"
        )


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("rlbench", "pyrep"):
            raise ModuleNotFoundError(f"{error}. RLBench is not installed: {HELP}", name=error.name) from error
        raise ModuleNotFoundError(f"{error}, which RLBench needs: pip install {error.name}", name=error.name) from error
    except ImportError as error:  # a library the compiled part is linked to, or the pyrep of PyPI
        raise ImportError(
            f"{error}. Either the simulator's library is not found, then LD_LIBRARY_PATH must have $COPPELIASIM_ROOT "
            f"before Python starts, or this is another pyrep. {HELP}"
        ) from error
