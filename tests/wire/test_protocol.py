"""The wire's encoding: everything that may travel comes back equal, nothing else gets in or out."""

import pickle
import struct

import msgpack
import numpy as np
import pytest

from drifting_vla_jax.wire import protocol

KINDS = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
METADATA = {"cameras": ["top", "side"], "image_size": 4, "state_dim": 3, "prompts": ["open the drawer"]}


def sample(dtype: str, shape: tuple) -> np.ndarray:
    """Values that use the type's whole range."""
    info = np.finfo(dtype) if dtype[0] == "f" else None if dtype == "?" else np.iinfo(dtype)
    values = [0, 1] if info is None else [info.min, 0, 1, info.max]
    return np.resize(np.array(values, dtype), shape)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 4)])
def test_arrays_come_back_equal(dtype, shape):
    array = sample(dtype, shape)
    back = protocol.unpack(protocol.pack({"a": array}))["a"]
    assert back.dtype == array.dtype and back.shape == shape
    np.testing.assert_array_equal(back, array)


def test_arrays_come_back_owned_and_writable():
    back = protocol.unpack(protocol.pack(np.arange(6, dtype=np.float32)))
    back += 1
    np.testing.assert_array_equal(back, [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("dtype", [k for k in KINDS if k != "?"])
def test_big_endian_arrives_native(dtype):
    array = sample(dtype, (4,)).astype(np.dtype(dtype).newbyteorder(">"))
    back = protocol.unpack(protocol.pack(array))
    assert back.dtype.isnative and back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back, array)


def test_memory_order_does_not_matter():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for view in (array[:, ::-2], array.T, np.asfortranarray(array), np.broadcast_to(array[:1], (5, 3, 4))):
        np.testing.assert_array_equal(protocol.unpack(protocol.pack(view)), view)


@pytest.mark.parametrize("dtype", KINDS)
def test_scalars_keep_value_and_type(dtype):
    for value in sample(dtype, (4,)):
        back = protocol.unpack(protocol.pack({"s": value}))["s"]
        assert back == value
        if dtype != "f8":  # NumPy's float64 is a Python float, and travels as one
            assert type(back) is type(value)


def test_encoding_is_the_one_of_openpi():
    raw = msgpack.unpackb(protocol.pack({"a": np.array([[1.5, 2.0]], np.float32), "s": np.int16(3)}))
    assert raw["a"] == {b"__ndarray__": True, b"data": struct.pack("<2f", 1.5, 2), b"dtype": "<f4", b"shape": [1, 2]}
    assert raw["s"] == {b"__npgeneric__": True, b"data": 3, b"dtype": "<i2"}


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1 + 2j]),
        np.zeros(2, [("x", "f4")]),
        np.array(["text"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.longdouble(1),
        np.complex64(1),
        np.void(b"abc"),
    ],
    ids=lambda value: str(value.dtype),
)
def test_other_types_are_not_sent(value):
    with pytest.raises(protocol.ProtocolError, match="does not travel"):
        protocol.pack({"a": value})


def test_unknown_objects_are_not_sent():
    with pytest.raises(protocol.ProtocolError, match="a set cannot be sent"):
        protocol.pack({"a": {1, 2}})
    with pytest.raises(protocol.ProtocolError, match="at most 64 bits"):
        protocol.pack({"a": 2**70})
    endless = []
    endless.append(endless)
    with pytest.raises(protocol.ProtocolError, match="cannot be encoded"):
        protocol.pack(endless)


def array_map(**changes) -> dict:
    """A valid array of two float32, with fields exchanged."""
    fields = {"__ndarray__": True, "data": bytes(8), "dtype": "<f4", "shape": [2], **changes}
    return {key.encode(): value for key, value in fields.items()}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (array_map(dtype="|O"), "does not travel"),
        (array_map(dtype="|V8", shape=[1]), "does not travel"),
        (array_map(dtype="<c8", shape=[1]), "does not travel"),
        (array_map(dtype="f4,f4", shape=[1]), "does not travel"),
        (array_map(dtype="(1000000000,)f4"), "does not travel"),
        (array_map(dtype=None), "does not travel"),
        (array_map(dtype=["f4"]), "does not travel"),
        (array_map(shape=[3]), "takes 12 bytes; 8 came"),
        (array_map(shape=[1]), "takes 4 bytes; 8 came"),
        (array_map(shape=[2**30, 2**30, 2**30]), "bytes; 8 came"),
        (array_map(shape=[2**62]), "list of sizes"),
        (array_map(shape=[-2]), "list of sizes"),
        (array_map(shape=[-1, -2]), "list of sizes"),
        (array_map(shape=[2.0]), "list of sizes"),
        (array_map(shape=[True, 2]), "list of sizes"),
        (array_map(shape=2), "list of sizes"),
        (array_map(shape=None), "list of sizes"),
        (array_map(shape=[1] * 64 + [2]), "dimensions"),
        (array_map(data="12345678"), "expected bytes"),
        (array_map(data=None), "expected bytes"),
        ({b"__ndarray__": True}, "does not travel"),
        ({b"__npgeneric__": True, b"dtype": "<f4", b"data": b"abcd"}, "scalar holds"),
        ({b"__npgeneric__": True, b"dtype": "|u1", b"data": 300}, "does not fit"),
        ({b"__npgeneric__": True, b"dtype": "<f2", b"data": 1e300}, "does not fit"),
        ({b"__npgeneric__": True, b"dtype": "|u1", b"data": 1.5}, "scalar holds"),
        ({b"__npgeneric__": True, b"dtype": "|O", b"data": 1}, "does not travel"),
        (msgpack.ExtType(5, b"abc"), "extension type 5"),
    ],
)
def test_malformed_values_are_refused(message, reason):
    with pytest.raises(protocol.ProtocolError, match=reason):
        protocol.unpack(msgpack.packb({"field": message}))


def test_malformed_bytes_are_refused():
    good = protocol.pack({"a": np.arange(9)})
    bad = [
        b"",
        good + b"\x00",
        pickle.dumps({"a": 1}),
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\x7f\xff\xff\xff",
        b"\x91" * 5000,
    ]
    bad += [b"\x81\x80\x80", b"\xa1\xff"]  # a map as a key; no UTF-8
    for data in bad + [good[:n] for n in range(len(good))]:
        with pytest.raises(protocol.ProtocolError):
            protocol.unpack(data)


def test_random_damage_raises_nothing_but_protocol_errors():
    rng = np.random.default_rng(0)
    good = np.frombuffer(
        protocol.pack({"a": np.arange(9), "b": [np.float32(1), "x"], "c": np.ones((2, 2), bool)}), np.uint8
    )
    refused = 0
    for _ in range(3000):
        damaged = good.copy()
        damaged[rng.integers(0, len(good), rng.integers(1, 4))] = rng.integers(0, 256)
        try:
            protocol.unpack(damaged.tobytes())
        except protocol.ProtocolError:
            refused += 1
    assert refused > 500


def test_booleans_are_made_valid():
    back = protocol.unpack(msgpack.packb(array_map(dtype="|b1", data=bytes([0, 1, 7]), shape=[3])))
    assert back.dtype == bool and back.tobytes() == bytes([0, 1, 1])


def observation(**changes) -> dict:
    return {**protocol.example_observation(METADATA), **changes}


def test_good_observations_pass():
    for good in (observation(), observation(seed=0), observation(seed=np.int64(2**32 - 1))):
        protocol.check_observation(good, METADATA)
        protocol.check_observation(protocol.unpack(protocol.pack(good)), METADATA)
    without_seed = observation()
    del without_seed["seed"]
    protocol.check_observation(without_seed, METADATA)


IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        ([1, 2], "the message is a list; expected a map"),
        ({"images": {}}, "state, prompt missing"),
        (observation(sed=1), r"unknown field \['sed'\]; expected images, state, prompt"),
        (observation(images=IMAGE), "images is a ndarray; expected a map"),
        (observation(images={"top": IMAGE}), r"cameras \['top'\]; expected \['top', 'side'\]"),
        (observation(images={"top": IMAGE, "front": IMAGE}), r"\['top', 'front'\]; expected \['top', 'side'\]"),
        (
            observation(images={"top": IMAGE[:2], "side": IMAGE}),
            r"images\['top'\] is uint8 \[2, 4, 3\]; expected uint8",
        ),
        (
            observation(images={"top": IMAGE, "side": IMAGE / 1}),
            r"images\['side'\] is float64 \[4, 4, 3\]; expected uint8",
        ),
        (observation(images={"top": IMAGE, "side": "x"}), r"images\['side'\] is a str; expected uint8 \[4, 4, 3\]"),
        (observation(state=np.zeros(2, np.float32)), r"state is float32 \[2\]; expected float32 \[3\]"),
        (observation(state=np.zeros(3)), r"state is float64 \[3\]; expected float32 \[3\]"),
        (observation(state=[0, 0, 0]), "state is a list; expected float32"),
        (observation(state=np.array([0, np.nan, 0], np.float32)), "state is not finite"),
        (observation(prompt=""), "prompt is ''"),
        (observation(prompt=b"open"), "prompt is b'open'"),
        (observation(seed=None), "seed is None"),
        (observation(seed=-1), "seed is -1"),
        (observation(seed=2**32), "seed is 4294967296"),
        (observation(seed=True), "seed is True"),
        (observation(seed=0.5), "seed is 0.5"),
    ],
)
def test_bad_observations_get_one_line_naming_the_field(bad, line):
    with pytest.raises(ValueError, match=line) as caught:
        protocol.check_observation(bad, METADATA)
    assert "\n" not in str(caught.value)


def test_metadata_is_checked():
    full = dict.fromkeys(protocol.METADATA_KEYS, 0) | {"action_dim": 8}
    protocol.check_metadata(full)
    with pytest.raises(protocol.ProtocolError, match="lacks horizon"):
        protocol.check_metadata({k: v for k, v in full.items() if k != "horizon"})
    with pytest.raises(protocol.ProtocolError, match="7 dimensions; expected 8"):
        protocol.check_metadata(full | {"action_dim": 7})
    with pytest.raises(protocol.ProtocolError, match="a list"):
        protocol.check_metadata([])
