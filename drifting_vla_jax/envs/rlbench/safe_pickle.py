"""Pickled demonstrations, read without running anything that a pickle asks for.

A pickle is a program for a small stack machine: it may import any function and call it. This reader is a machine that
knows plain values, and the few names below as inert stand-ins; every other name is refused and said. Arrays are put
together here, from their dtype's letters, their shape and their bytes, so that no state of a damaged file reaches
numpy's C code, and dtypes that hold objects do not exist.

Files written by pickle protocols 0 to 5 with the names of numpy 1 (``numpy.core``) or 2 (``numpy._core``) are read.
Python's own machine in Python is used, not the one in C: that one allocates whatever a wrong memo number asks for.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

MAX_BYTES = 256 * 2**20  # of a file: a demonstration without images takes kilobytes per time step
MAX_DEPTH = 20  # of containers inside each other
DTYPE = re.compile(r"b1|[iu][1248]|f[248]")

# Opcodes that plain values, arrays and objects need. Left out: persistent and extension identifiers, sets, class
# instances of Python 2, out-of-band buffers, DUP.
OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT"),
    *("LONG_BINPUT", "MEMOIZE", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8", "LIST", "EMPTY_LIST", "APPEND", "APPENDS", "DICT", "EMPTY_DICT", "SETITEM"),
    *("SETITEMS", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"),
)
# What a damaged program runs into: each is reported as a damaged file.
FAULTS = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, NameError),
    *(OverflowError, MemoryError, RecursionError, struct.error, AssertionError),
)


class PickleError(ValueError):
    """A pickle that is damaged; the message names the file."""


class RefusedError(PickleError):
    """A pickle that asks for something other than plain values and arrays; the message names what."""


class InertObject:
    """An object of the file's own classes: its attributes, and ``kind``, the class's name."""

    def __init__(self, kind: str):
        self.kind = kind

    def set(self, state: Any) -> None:
        if not isinstance(state, dict) or "kind" in state:
            raise ValueError(f"the state of a {self.kind} is {type(state).__name__}, not attributes")
        self.__dict__.update(state)


class _Class:
    """Stands for a class of the file: makes empty records."""

    def __init__(self, kind: str):
        self.kind = kind


class _Dtype:
    """Stands for numpy.dtype(letters): fixed-size numbers of either byte order."""

    def __init__(self, letters: Any, *_: Any):
        if not isinstance(letters, str):
            raise ValueError(f"the letters of a dtype are {type(letters).__name__}")
        if not DTYPE.fullmatch(letters):
            raise RefusedError(f"dtype {letters[:20]!r}: only numbers and truth values are read")
        self.dtype = np.dtype(letters)

    def set(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise RefusedError(f"a dtype with byte order {order!r} or parts; only plain numbers are read")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array, until its parts have come."""

    value: np.ndarray | None = None

    def set(self, state: Any) -> None:
        _version, shape, dtype, by_columns, data = state
        self.fill(shape, dtype, "F" if by_columns is True else "C", data)

    def fill(self, shape: Any, dtype: Any, order: str, data: Any) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
            raise RefusedError("an array of objects; only arrays of numbers are read")
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
            raise ValueError("an array's shape is no tuple of sizes")
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} and dtype {dtype.dtype} has {len(data)} bytes")
        self.value = np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    array = _Array()
    array.fill(shape, dtype, "F" if order == "F" else "C", data)
    return array


def _scalar(dtype: Any, data: Any) -> _Array:
    array = _Array()
    array.fill((), dtype, "C", data)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError(f"_codecs.encode to {str(encoding)[:20]!r}; only latin1 is read")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocols 0 to 2 write b""."""
    return b""


def _reconstructor(cls: Any, base: Any, state: Any) -> InertObject:
    """How protocols 0 and 1 write objects."""
    if not isinstance(cls, _Class) or base is not object or state is not None:
        raise RefusedError("copyreg._reconstructor of something other than a plain object")
    return InertObject(cls.kind)


_DEMO, _OBSERVATION, _NDARRAY = _Class("Demo"), _Class("Observation"), _Class("ndarray")
NAMES: dict[tuple[str, str], Any] = {
    ("rlbench.demo", "Demo"): _DEMO,
    ("rlbench.backend.observation", "Observation"): _OBSERVATION,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(module, "_reconstructor"): _reconstructor for module in ("copyreg", "copy_reg")},
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
    **{(module, "object"): object for module in ("builtins", "__builtin__")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
CALLABLE = (_Dtype, _encode, _no_bytes, _reconstructor, _reconstruct, _scalar, _from_buffer)


class _Machine(pickle._Unpickler):
    """Python's own unpickler with fewer opcodes, none of which calls or changes anything but the stand-ins."""

    dispatch: ClassVar = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise RefusedError(f"it asks for {module}.{name}"[:200])
        return NAMES[module, name]

    def get_extension(self, code: int) -> None:
        raise RefusedError(f"it asks for extension {code}")

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not any(function is known for known in CALLABLE) or not isinstance(arguments, tuple):
            raise RefusedError(f"it calls a {type(function).__name__}")
        self.append(function(*arguments))

    def load_newobj(self) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, _Class) or arguments != ():
            raise RefusedError(f"it makes an object of a {type(cls).__name__}")
        self.append(InertObject(cls.kind))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, (InertObject, _Dtype, _Array)):
            raise RefusedError(f"it sets the state of a {type(target).__name__}")
        target.set(state)

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes in one piece")
        self.append(bytearray(self.read(size)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def _set_items(self, items: list) -> None:
        """Keys are strings: hashing tuples of tuples of tuples can take for ever."""
        if len(items) % 2 or type(self.stack[-1]) is not dict or not all(type(key) is str for key in items[::2]):
            raise ValueError("a dictionary whose keys are not strings")
        self.stack[-1].update(zip(items[::2], items[1::2]))

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(f"something is appended to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    dispatch |= {
        getattr(pickle, name)[0]: method
        for name, method in {
            **{"REDUCE": load_reduce, "NEWOBJ": load_newobj, "BUILD": load_build, "BYTEARRAY8": load_bytearray8},
            **{"SETITEM": load_setitem, "SETITEMS": load_setitems, "DICT": load_dict},
            **{"APPEND": load_append, "APPENDS": load_appends},
        }.items()
    }


def loads(data: bytes, name: str) -> Any:
    """The value of a pickle: plain values, arrays, and a ``InertObject`` for every object. ``name`` is for messages.

    Raises:
      RefusedError: it asks for something that is not read; nothing has been run.
      PickleError: it is damaged or too large.
    """
    if len(data) > MAX_BYTES:
        raise PickleError(f"{name} has {len(data)} bytes; a demonstration's file has at most {MAX_BYTES}")
    stream = io.BytesIO(data)
    try:
        value = _plain(_Machine(stream).load(), {}, 0)
    except RefusedError as error:
        raise RefusedError(f"{name} is refused: {error}; do not use this file") from error
    except FAULTS as error:
        raise PickleError(f"{name} is damaged: {type(error).__name__}: {str(error)[:160]}; fetch it again") from error
    if stream.read(1):
        raise PickleError(f"{name} is damaged: something follows its end; fetch it again")
    return value


def load(path: Path) -> Any:
    """``loads`` of a file; raises OSError where it cannot be read."""
    if path.stat().st_size > MAX_BYTES:
        raise PickleError(f"{path} has {path.stat().st_size} bytes; a demonstration's file has at most {MAX_BYTES}")
    return loads(path.read_bytes(), str(path))


def _plain(value: Any, seen: dict[int, Any], depth: int) -> Any:
    """The value with arrays in place of their stand-ins; what is shared stays shared."""
    if isinstance(value, (str, bytes, bytearray, int, float, type(None))):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if depth > MAX_DEPTH:
        raise ValueError(f"containers more than {MAX_DEPTH} deep, or inside themselves")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        new = value.value
    elif isinstance(value, dict):
        new = {key: _plain(v, seen, depth + 1) for key, v in value.items()}
    elif isinstance(value, (list, tuple)):
        new = type(value)(_plain(v, seen, depth + 1) for v in value)
    elif isinstance(value, InertObject):
        new = InertObject(value.kind)
        new.__dict__.update({key: _plain(v, seen, depth + 1) for key, v in vars(value).items()})
    else:
        raise ValueError(f"a {type(value).__name__} where a value was expected")
    seen[id(value)] = new
    return new
