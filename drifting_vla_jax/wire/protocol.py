"""The messages between a robot and a policy: msgpack, with NumPy arrays encoded as openpi's clients encode them.

    array    {b"__ndarray__": True, b"data": C-order bytes, b"dtype": "<f4", b"shape": [16, 8]}
    scalar   {b"__npgeneric__": True, b"data": 1.5, b"dtype": "<f4"}

    server -> client, once    metadata map (``METADATA_KEYS``)
    client -> server          {"images": {camera: uint8 [H, W, 3]}, "state": float32 [s], "prompt": str, "seed": int}
    server -> client          {"actions": float32 [h, action_dim], "server_timing": {"queue_ms", "infer_ms", "total_ms"}}
    server -> client          a text frame instead: an error message; the connection stays usable

What comes from a socket is not trusted: dtypes are a closed list (booleans, integers, floats up to 64 bits), declared
shapes must account for every byte, and nothing is ever unpickled. Decoded arrays own their memory, are writable and
have the machine's byte order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from drifting_vla_jax.core.text import instruction_problem, shown

ACTION_DIM = 8  # of one end effector: x y z | qx qy qz qw | gripper
MAX_MESSAGE_BYTES = 32 * 2**20  # larger messages close the connection (websocket close code 1009)
SEED_LIMIT = 2**32  # seeds are 0 <= seed < SEED_LIMIT

METADATA_KEYS = (
    "cameras",  # [str] views the policy expects, in its order
    "image_size",  # int, height and width of every view
    "state_dim",  # int, s
    "horizon",  # int, h
    "action_dim",  # int, ACTION_DIM unless "action_names" say otherwise
    "prompts",  # [str] the training instructions
    "checkpoint_step",  # int, optimiser steps behind these weights
    "config_hash",  # str, identity of the training configuration
    "objective",  # str, name of the training objective
    "evaluations_per_chunk",  # int, network evaluations per answer
    "control_hz",  # float, actions per second
    "environment",  # str, simulator of the demonstrations
    "frame_skip",  # int, simulator steps per action
)  # and "state_names" ([str], what the state's numbers are), "state_mean" ([float], of the training data); from a policy that
# looks back: "history" (earlier time steps shown), "history_stride" (actions between them); from one that learned from several
# data sets: "dataset" (the one it acts for), "tasks" (which it learned there); from one that moves something else than one end
# effector: "action_names" (of the action_dim numbers); from a checkpoint: "weights" (str, fingerprint of what it answers with)

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_MAX_NDIM = 32


class ProtocolError(ValueError):
    """A message that cannot be sent, or that came and is malformed."""


class UnsoundActionsError(RuntimeError):
    """A policy's answer that must not be executed; the message names what is wrong with it."""


def pack(message: Any) -> bytes:
    """Encodes maps, lists, strings, numbers and NumPy arrays (any memory order) as one msgpack message.

    Raises:
      ProtocolError: an array of objects, records, complex numbers or strings, or a value that msgpack does not know.
    """
    try:
        return msgpack.packb(message, default=_encode)
    except ProtocolError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"message cannot be encoded: {error}") from error


def unpack(data: bytes) -> Any:
    """Decodes one msgpack message; arrays come back owned, writable and in native byte order.

    Raises:
      ProtocolError: truncated or trailing bytes, a dtype outside the closed list, a shape that does not fit its bytes.
    """
    try:
        return msgpack.unpackb(data, object_hook=_decode, ext_hook=_refuse_extension)
    except ProtocolError:
        raise
    except (TypeError, ValueError, OverflowError, msgpack.UnpackException) as error:
        raise ProtocolError(f"message of {len(data)} bytes is not valid msgpack: {error}") from error


def _encode(value: Any) -> dict:
    """msgpack's hook for what it cannot encode itself."""
    if isinstance(value, int):
        raise ProtocolError(f"{value} cannot be sent; integers have at most 64 bits")
    if not isinstance(value, (np.ndarray, np.generic)):
        raise ProtocolError(f"a {type(value).__name__} cannot be sent; expected numbers, strings or NumPy arrays")
    dtype = _check_dtype(value.dtype.str)
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype.str}
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": dtype.str, b"shape": value.shape}


def _decode(value: dict) -> Any:
    """msgpack's hook for every map that arrives."""
    if b"__ndarray__" in value:
        return _decode_array(value)
    if b"__npgeneric__" in value:
        return _decode_scalar(value)
    return value


def _decode_array(value: dict) -> np.ndarray:
    dtype = _check_dtype(value.get(b"dtype"))
    shape, data = value.get(b"shape"), value.get(b"data")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ProtocolError(f"an array has shape {_short(shape)}; expected a list of sizes >= 0")
    if len(shape) > _MAX_NDIM:
        raise ProtocolError(f"an array has {len(shape)} dimensions; expected at most {_MAX_NDIM}")
    if not isinstance(data, bytes):
        raise ProtocolError(f"an array's data is a {type(data).__name__}; expected bytes")
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise ProtocolError(f"an array of {dtype.name} {shape} takes {needed} bytes; {len(data)} came")
    if dtype.kind == "b":  # any byte but 0 and 1 would make an invalid boolean
        return np.frombuffer(data, np.uint8).reshape(shape) != 0
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=True)


def _decode_scalar(value: dict) -> np.generic:
    dtype = _check_dtype(value.get(b"dtype"))
    data = value.get(b"data")
    expected = {"b": bool, "i": int, "u": int, "f": (int, float)}[dtype.kind]
    if not isinstance(data, expected) or (dtype.kind != "b" and isinstance(data, bool)):
        raise ProtocolError(f"a {dtype.name} scalar holds {_short(data)}")
    try:
        with np.errstate(over="raise"):
            return dtype.type(data)
    except ArithmeticError as error:
        raise ProtocolError(f"{data} does not fit {dtype.name}") from error


def _check_dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ProtocolError(
            f"dtype {_short(name)} does not travel; expected bool, (u)int8..64 or float16..64 "
            "(convert bfloat16 to float32, send strings as str)"
        )
    return np.dtype(name)


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ProtocolError(f"msgpack extension type {code} is not part of this protocol")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_metadata(metadata: Any) -> None:
    """Raises ProtocolError with one line if a server's first message is not the metadata of a policy."""
    if not isinstance(metadata, dict):
        raise ProtocolError(f"the server's first message is a {type(metadata).__name__}; expected its metadata map")
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise ProtocolError(f"the server's metadata lacks {', '.join(missing)}; is it a drifting_vla_jax server?")
    names = metadata.get("action_names")
    expected = len(names) if isinstance(names, (list, tuple)) else ACTION_DIM
    if metadata["action_dim"] != expected:
        raise ProtocolError(f"the server's actions have {metadata['action_dim']} dimensions; expected {expected}")


def check_values(metadata: Mapping[str, Any]) -> None:
    """Raises ProtocolError with one line if one of the metadata's values is not what ``METADATA_KEYS`` says of it."""
    for key in ("cameras", "prompts", "state_names", "action_names"):
        names = metadata.get(key) or ()
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ProtocolError(f"the server's metadata has {key} {_short(names)}; expected a list of str")
    least = {"image_size": 1, "state_dim": 1, "horizon": 1, "action_dim": 1, "frame_skip": 0}
    for key, smallest in (least | {"history": 0, "history_stride": 1}).items():
        value = metadata.get(key, smallest)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < smallest:
            raise ProtocolError(f"the server's metadata has {key} {_short(value)}; expected a number from {smallest}")
    rate, mean = metadata["control_hz"], metadata.get("state_mean")
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < math.inf:
        raise ProtocolError(f"the server's metadata has control_hz {_short(rate)}; expected actions per second")
    if mean is not None and np.shape(mean) != (metadata["state_dim"],):
        raise ProtocolError(f"the server's metadata has state_mean {_short(mean)}; expected state_dim numbers")


def check_observation(observation: Any, metadata: Mapping[str, Any]) -> None:
    """Raises ProtocolError, one line naming the field, what came and what was expected, if the policy cannot use it."""
    if not isinstance(observation, dict):
        raise ProtocolError(f"the message is a {type(observation).__name__}; expected a map with images, state, prompt")
    missing = [key for key in ("images", "state", "prompt") if key not in observation]
    if missing:
        raise ProtocolError(f"{', '.join(missing)} missing from the observation; got {_names(observation)}")
    unknown = [key for key in observation if key not in ("images", "state", "prompt", "seed")]
    if unknown:
        raise ProtocolError(f"unknown field {_names(unknown)}; expected images, state, prompt and optionally seed")
    _check_images(observation["images"], metadata["cameras"], image_shape(metadata))
    _check_array("state", observation["state"], "float32", (metadata["state_dim"],))
    if not np.all(np.isfinite(observation["state"])):
        raise ProtocolError(f"state is not finite: {np.array2string(observation['state'], precision=4)}")
    prompt = observation["prompt"]
    wrong = instruction_problem(prompt)
    if wrong:
        raise ProtocolError(f"prompt is {shown(_short(prompt))}; it {wrong}; expected an instruction, a non-empty str")
    seed = observation.get("seed", 0)
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < SEED_LIMIT:
        raise ProtocolError(f"seed is {_short(seed)}; expected an integer, 0 <= seed < 2**32")


def image_shape(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Of one camera's entry: [size, size, 3], or [k + 1, size, size, 3], oldest first, for a policy that sees k more."""
    size, history = metadata["image_size"], metadata.get("history", 0)
    return (history + 1, size, size, 3) if history else (size, size, 3)


def _check_images(images: Any, cameras: list, shape: tuple) -> None:
    if not isinstance(images, dict):
        raise ProtocolError(f"images is a {type(images).__name__}; expected a map with cameras {_names(cameras)}")
    if set(images) != set(cameras):
        raise ProtocolError(f"images has cameras {_names(images)}; expected {_names(cameras)}")
    for camera in cameras:
        _check_array(f"images[{camera!r}]", images[camera], "uint8", shape)


def _check_array(name: str, value: Any, dtype: str, shape: tuple) -> None:
    expected = f"expected {dtype} {list(shape)}"
    if not isinstance(value, np.ndarray):
        raise ProtocolError(f"{name} is a {type(value).__name__}; {expected} as a NumPy array")
    if value.dtype != dtype or value.shape != shape:
        raise ProtocolError(f"{name} is {value.dtype} {list(value.shape)}; {expected}")


def _names(names: Any) -> str:
    return _short([n if isinstance(n, str) else repr(n) for n in names])


def example_observation(metadata: Mapping[str, Any]) -> dict:
    """A valid observation, black images and the mean state of training (or zeros): what a server warms itself with."""
    return {
        "images": {camera: np.zeros(image_shape(metadata), np.uint8) for camera in metadata["cameras"]},
        "state": np.array(metadata.get("state_mean") or np.zeros(metadata["state_dim"]), np.float32),
        "prompt": metadata["prompts"][0] if metadata["prompts"] else "wait",
        "seed": 0,
    }
