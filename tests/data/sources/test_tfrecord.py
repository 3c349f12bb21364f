"""TFRecord files, and the checksum in them."""

import struct

import pytest

from drifting_vla_jax.data.sources.rlds import tfrecord


def write(path, records) -> None:
    with path.open("wb") as file:
        for data in records:
            length = struct.pack("<Q", len(data))
            file.write(
                length + struct.pack("<I", tfrecord.masked(length)) + data + struct.pack("<I", tfrecord.masked(data))
            )


@pytest.mark.parametrize(
    ("data", "crc"), [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)]
)
def test_the_checksum_is_that_of_rfc_3720_turned_and_shifted(data, crc):
    assert tfrecord.masked(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def test_records_come_back(tmp_path):
    records = [b"four", bytes(300), b"a longer record" * 20]
    write(tmp_path / "a", records)
    places = tfrecord.places(tmp_path / "a")
    assert [tfrecord.read(tmp_path / "a", *place) for place in places] == records


def test_damage_is_named(tmp_path):
    path = tmp_path / "a"
    write(path, [b"four" * 10, b"five" * 10])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="a is cut: record 1 ends at byte 112, the file at 111"):
        tfrecord.places(path)
    path.write_bytes(b"\x01" + whole[1:])
    with pytest.raises(ValueError, match=r"a is cut or damaged at byte 0 \(record 0\)"):
        tfrecord.places(path)
    path.write_bytes(whole[:20] + b"?" + whole[21:])
    first, second = tfrecord.places(path)
    with pytest.raises(ValueError, match="the record at byte 12 is damaged"):
        tfrecord.read(path, *first)
    assert tfrecord.read(path, *second) == b"five" * 10
    with pytest.raises(ValueError, match="b is missing"):
        tfrecord.places(tmp_path / "b")
