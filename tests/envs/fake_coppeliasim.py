"""A stand-in for the one part of PyRep that is compiled, ``pyrep.backend._sim_cffi``; PyRep and RLBench run unmodified on it.

    fake = fake_coppeliasim.install(pyrep_source, rlbench_source)     # before pyrep or rlbench is imported
    fake.calls["simHandleVisionSensor"]                               # how often the binary was asked what
    fake.path_fails = True                                            # what goes wrong from here on

``ffi`` is cffi's own, with the declarations that PyRep's cffi_build.py has: every call is checked against the C signature, by
number and kind of arguments. ``lib`` answers from a small world (fake_scene.py) with one task, ReachTarget, whose success is
a distance. Whatever is not written here raises NotImplementedError with its name: the fake proves how the binary is called,
nothing about physics, rendering or success rates.
"""

from __future__ import annotations

import os
import re
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np

from tests.envs.fake_motion import Motion
from tests.envs.fake_scene import DT, World

SCENES: list[str] = []
PRESENT = os.path.isfile


def install(pyrep: Path, rlbench: Path, root: Path) -> Lib:
    """Makes the checkouts importable, with the fake in place of the compiled module; ``root`` is a scratch COPPELIASIM_ROOT.

    What was imported of another checkout is forgotten. RLBench looks whether its scene files exist before it hands their
    names to the simulator: for the two that the fake knows the answer is yes.
    """
    import cffi

    uninstall()
    source = (Path(pyrep) / "cffi_build" / "cffi_build.py").read_text()
    declarations = re.search(r'cdef\("""(.*?)"""\)', source, re.S)[1]
    ffi = cffi.FFI()
    ffi.cdef(declarations)
    module = types.ModuleType("pyrep.backend._sim_cffi")
    module.ffi, module.lib = ffi, Lib(ffi, declarations)
    sys.modules[module.__name__] = module
    sys.path[:0] = [str(rlbench), str(pyrep)]
    os.environ["COPPELIASIM_ROOT"] = str(root)
    os.environ.setdefault("DISPLAY", ":0")
    SCENES[:] = [str(Path(rlbench) / "rlbench" / name) for name in ("task_design.ttt", "task_ttms/reach_target.ttm")]
    os.path.isfile = lambda path: os.path.normpath(path) in SCENES or PRESENT(path)
    return module.lib


def uninstall() -> None:
    """Forgets the checkouts."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pyrep", "rlbench")]:
        del sys.modules[name]
    sys.path[:] = [
        path for path in sys.path if not (PRESENT(f"{path}/rlbench/demo.py") or PRESENT(f"{path}/pyrep/pyrep.py"))
    ]
    SCENES.clear()
    os.path.isfile = PRESENT


class Lib(Motion):
    """The binary's functions by their C names.

    Attributes:
      calls: how often each was called; ``rendered``: how often each camera was handled; ``planned``: one entry per path,
        whether it was checked for collisions.
      ik_reach: metres beyond which inverse kinematics finds nothing from where the arm is.
      path_fails, collides, crashes: no path is found; everything touches; the next simulator step fails as the binary does.
    """

    def __init__(self, ffi, declarations: str):
        self._ffi, self._checks = ffi, {}
        declared = re.findall(r"^\w[\w ]*[\s*]+(sim\w+)\(([^;]*)\);$", declarations, re.M)
        self._declared = {name: arguments for name, arguments in declared}
        self.calls, self.rendered, self.planned = Counter(), Counter(), []
        self.ik_reach, self.path_fails, self.collides, self.crashes = 0.3, False, False, False
        self.start()

    def start(self) -> None:
        self._world, self._running, self._kept, self._states, self._moves = World(), False, [], {}, {}
        self._images: dict[int, np.ndarray] = {}

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        function = getattr(type(self), f"_{name}", None)
        if function is None:
            raise NotImplementedError(f"the fake simulator has no {name}")

        def call(*arguments):
            self.calls[name] += 1
            self._check(name, arguments)
            return function(self, *arguments)

        return call

    def _check(self, name: str, arguments: tuple) -> None:
        """That C would take these arguments: their number, and whole numbers and fractions where they belong."""
        types = self._checks.get(name)
        if types is None:
            kind = self._ffi.typeof(f"int(*)({self._declared[name]})")
            types = self._checks[name] = kind.args
        if len(types) != len(arguments):
            raise TypeError(f"{name} takes {len(types)} arguments, {len(arguments)} were given")
        for kind, value in zip(types, arguments):
            if kind.kind == "primitive":
                self._ffi.new(self._ffi.getctype(kind, "*"), value)

    def _keep(self, cdata):
        self._kept = [*self._kept[-50:], cdata]
        return cdata

    def _frame(self, handle: int) -> np.ndarray:
        return np.eye(4) if handle < 0 else self._world.frame(self._world.things[handle])

    # the process and time

    def _simExtLaunchUIThread(self, application, options, scene, root):
        self.start()

    def _simExtCanInitSimThread(self):
        return 1

    def _simExtSimThreadInit(self):
        pass

    def _simExtSimThreadDestroy(self):
        pass

    def _simExtPostExitRequest(self):
        pass

    def _simSetStringParameter(self, parameter, value):
        return 0

    def _simStartSimulation(self):
        self._running = True
        return 1

    def _simStopSimulation(self):
        self._running = False
        return 1

    def _simGetSimulationTimeStep(self):
        return DT

    def _simExtStep(self, if_running):
        if self.crashes:
            self.crashes = False
            raise RuntimeError("The call failed on the V-REP side. Return value: -1")
        if self._running and if_running:
            self._world.step()

    def _simReleaseBuffer(self, pointer):
        return 0

    # objects

    def _find(self, name: bytes) -> int:
        return next((t.handle for t in self._world.things.values() if t.name == name.decode()), -1)

    def _simGetObjectHandle(self, name):
        return self._find(name)

    def _simGetIkGroupHandle(self, name):
        return 1 if name == b"Panda_ik" else -1

    def _simGetCollectionHandle(self, name):
        return 2 if name == b"Panda_arm" else -1

    def _simGetObjectName(self, handle):
        thing = self._world.things.get(handle)
        return self._ffi.NULL if thing is None else self._keep(self._ffi.new("char[]", thing.name.encode()))

    def _simGetObjectType(self, handle):
        return self._world.things[handle].kind

    def _simGetObjectParent(self, handle):
        return self._world.things[handle].parent

    def _simSetObjectParent(self, handle, parent, keep):
        thing = self._world.things[handle]
        before = self._world.frame(thing)
        thing.parent = parent
        self._world.place(thing, before)
        return 1

    def _simGetObjectsInTree(self, base, kind, options, count):
        things = list(self._world.things.values()) if base < 0 else self._world.tree(base)
        if options & 1 and base >= 0:
            things = things[1:]
        if options & 2:
            things = [t for t in things if t.parent == base]
        handles = [t.handle for t in things if kind in (-2, t.kind)]
        count[0] = len(handles)
        return self._keep(self._ffi.new("int[]", handles or [0]))

    def _simCreateDummy(self, size, colour):
        return self._world.add("Dummy", 4).handle

    def _simLoadModel(self, path):
        if Path(path.decode()).name != "reach_target.ttm":
            raise NotImplementedError(f"the fake simulator has no scene of {Path(path.decode()).name}")
        return self._world.load_reach_target().handle

    def _simRemoveObject(self, handle):
        for thing in self._world.tree(handle):
            del self._world.things[thing.handle]
        return 1

    _simRemoveModel = _simRemoveObject

    def _simGetModelProperty(self, handle):
        return self._world.things[handle].model

    def _simSetModelProperty(self, handle, value):
        self._world.things[handle].model = value
        return 1

    def _simGetObjectSpecialProperty(self, handle):
        return 1

    def _simSetObjectSpecialProperty(self, handle, value):
        return 1

    def _simGetExtensionString(self, handle, index, key):
        return self._ffi.NULL

    def _simSetShapeColor(self, handle, name, component, colour):
        self._world.things[handle].colour = tuple(colour)
        return 1

    def _simGetObjectFloatParameter(self, handle, parameter, value):
        thing = self._world.things[handle]
        box = thing.box
        low_high = {15: 0, 18: 1, 16: 2, 19: 3, 17: 4, 20: 5, 21: 0, 24: 1, 22: 2, 25: 3, 23: 4, 26: 5}
        known = {number: box[place] for number, place in low_high.items()}
        known |= {1000: 0.01, 1001: 4.5, 1004: thing.value, 2012: 0.0, 2017: 2.175}
        value[0] = known[parameter]
        return 1

    def _simGetObjectInt32Parameter(self, handle, parameter, value):
        value[0] = self._world.things[handle].integers[parameter]
        return 1

    def _simSetObjectInt32Parameter(self, handle, parameter, value):
        self._world.things[handle].integers[parameter] = int(value)
        return 1

    def _simResetDynamicObject(self, handle):
        return 1

    def _simGetConfigurationTree(self, handle):
        key = str(len(self._states)).encode()
        self._states[key] = {t.handle: (t.local.copy(), t.value, t.target) for t in self._world.tree(handle)}
        cdata = self._states[key + b"c"] = self._ffi.new("char[]", key)
        return cdata

    def _simSetConfigurationTree(self, data):
        for handle, (local, value, target) in self._states[self._ffi.string(data)].items():
            if handle in self._world.things:
                thing = self._world.things[handle]
                thing.local, thing.value, thing.target = local.copy(), value, target
        return 1
