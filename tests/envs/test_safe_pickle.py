"""The unpickler: all protocols, old and new names, and nothing but plain values."""

import builtins
import os
import pickle
import pickletools
import subprocess
import sys
import types

import numpy as np
import pytest

from drifting_vla_jax.envs.rlbench import safe_pickle
from drifting_vla_jax.envs.rlbench.safe_pickle import PickleError, RefusedError, loads


@pytest.fixture
def classes(monkeypatch):
    """RLBench's two classes under their own module names, in this test alone: what pickle needs to WRITE them."""
    made = {}
    for module, name in (("rlbench.demo", "Demo"), ("rlbench.backend.observation", "Observation")):
        made[name] = type(name, (), {"__module__": module})
        for depth in range(1, len(module.split(".")) + 1):
            package = ".".join(module.split(".")[:depth])
            monkeypatch.setitem(sys.modules, package, sys.modules.get(package) or types.ModuleType(package))
        setattr(sys.modules[module], name, made[name])
    return made


def rebuilt(value, classes):
    """A ``InertObject`` tree as objects of the file's own classes."""
    if isinstance(value, safe_pickle.InertObject):
        new = classes[value.kind]()
        new.__dict__ |= {k: rebuilt(v, classes) for k, v in vars(value).items() if k != "kind"}
        return new
    if isinstance(value, dict):
        return {k: rebuilt(v, classes) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(rebuilt(v, classes) for v in value)
    return value


def same(a, b):
    """Whether two trees hold the same, arrays to the last bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, safe_pickle.InertObject):
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def dumps(value, protocol, numpy_1):
    """A pickle as an old or a new numpy would write it: only the module's name differs."""
    data = pickle.dumps(value, protocol)
    if numpy_1:
        if protocol < 4:
            return data.replace(b"cnumpy._core.", b"cnumpy.core.")
        for new in (b"numpy._core.multiarray", b"numpy._core.numeric"):  # a length goes before the name: no frames then
            old = new.replace(b"_core", b"core")
            data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
        data = data[:2] + data[11:] if data[2:3] == b"\x95" else data
    return data


@pytest.mark.parametrize("numpy_1", [False, True], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_gives_the_same_episode(protocol, numpy_1, demos, classes):
    path = demos / "train/close_jar/all_variations/episodes/episode1/low_dim_obs.pkl"
    original = safe_pickle.load(path)
    again = dumps(rebuilt(original, classes), protocol, numpy_1)
    assert (b"numpy._core" in again) != numpy_1 and b"rlbench" in again
    assert same(loads(again, "x"), original)
    assert len(original._observations) == 12 and original._observations[0].gripper_pose.shape == (7,)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.zeros((0, 4), np.uint8),
        np.array(True),
        np.float64(2.5),
    ],
    ids=lambda a: f"{np.asarray(a).dtype}{np.shape(a)}",
)
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_come_back(array, protocol):
    back = loads(pickle.dumps({"a": array}, protocol), "x")["a"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


class Payload:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, f"{os.system.__module__}.system"),
        (builtins.eval, "eval"),
        (subprocess.check_output, "check_output"),
        (np.load, "numpy.load"),
        (getattr, "getattr"),
    ],
)
def test_a_function_is_refused_by_name_and_not_called(function, named, protocol, tmp_path):
    trap = tmp_path / "trap"
    payload = Payload(function, f"touch {trap}")
    with pytest.raises(RefusedError, match=rf"demo\.pkl is refused: it asks for .*{named}; do not use this file"):
        loads(pickle.dumps([1, payload], protocol), "demo.pkl")
    assert not trap.exists()


def test_objects_hidden_in_arrays_are_refused():
    for array in (
        np.array([1, "a"], object),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.array(["text"]),
    ):
        for protocol in range(6):
            with pytest.raises(
                RefusedError, match="only numbers and truth values are read|plain numbers|array of objects"
            ):
                loads(pickle.dumps(array, protocol), "x")


def program(*parts) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


NDARRAY = text("numpy") + text("ndarray") + b"\x93"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            program(text("rlbench.demo"), text("Demo.__init__.__globals__"), b"\x93"),
            "asks for rlbench.demo.Demo.__init__",
        ),
        (program(text("rlbench.demo"), text("Demo"), b"\x93", b"N", text("x"), text("y"), b"s\x86b"), "is damaged"),
        (program(NDARRAY, b"(I99999999999\nt", b"R"), "it calls a _Class"),
        (program(NDARRAY, b"}", b"b"), "sets the state of a _Class"),
        (program(b"\x82\x01"), "is damaged: KeyError"),  # an extension code
        (program(b"\x96", (2**40).to_bytes(8, "little")), "1099511627776 bytes in one piece"),
        (program(b"]\x94", b"\x62" * 3), "is damaged"),
        (program(b"Nr\xff\xff\xff\xff"), None),  # a memo number that would cost Python's C machine 64 GB
        (program(b"]" * 40, b"a" * 39), "containers more than 20 deep"),
        (program(b"]\x94h\x00a"), "or inside themselves"),
        (program(b"}", b"N", b"N", b"s"), "keys are not strings"),
        (program(b"I" + b"9" * 10_000 + b"\n"), "is damaged: ValueError"),
        (b"", "is damaged: EOFError"),
        (program(b"N") + b"more", "something follows its end"),
    ],
)
def test_programs_that_no_demonstration_is(data, said):
    if said is None:
        assert loads(data, "x") is None
        return
    with pytest.raises(PickleError, match=said):
        loads(data, "x")


def test_shared_values_are_read_once_however_often_they_are_named():
    """40 lists that each hold the one before twice: 2^40 values if they were unfolded, so depth is what ends it."""
    value = []
    for _ in range(15):
        value = [value, value]
    back = loads(pickle.dumps(value), "x")
    assert back[0] is back[1] and back[0][0] is back[1][1]


def test_a_file_beyond_the_size_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 100)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(list(range(200))))
    with pytest.raises(PickleError, match="a demonstration's file has at most 100"):
        safe_pickle.load(tmp_path / "x.pkl")


def test_the_fixture_needs_five_names_alone(demos):
    """As the real data: protocol 4, numpy 1."""
    path = demos / "train/open_drawer/all_variations/episodes/episode0/low_dim_obs.pkl"
    strings = [a for _, a, _ in pickletools.genops(path.read_bytes()) if isinstance(a, str)]
    assert {"Demo", "Observation", "ndarray", "dtype", "_reconstruct", "numpy.core.multiarray"} <= set(strings)
    assert not {"rlbench", "pyrep"} & {name.split(".")[0] for name in sys.modules}
