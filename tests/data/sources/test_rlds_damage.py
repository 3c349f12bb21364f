"""RLDS that is damaged in places, written by hand: what is left out, what is refused, whatever its files say."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.data.sources.rlds import reader as rlds_files
from drifting_vla_jax.data.sources.rlds import tfrecord
from tests.data.sources.test_rlds import converted
from tests.data.sources.test_tfrecord import write as write_records

STEPS, SIZE, TASKS = 3, 16, ("Put it there", "Open it", "Put it there", "Open it")
FIELDS = ("observation/state", "action")
SHARD = "made-train.tfrecord-0000{}-of-00002"


def record(number: int) -> bytes:
    example = tf_example_pb2.Example()
    feature = example.features.feature
    rng = np.random.default_rng(number)
    for name, width in (("observation/state", 8), ("action", 7)):
        feature[f"steps/{name}"].float_list.value.extend(rng.uniform(-1, 1, STEPS * width).astype(np.float32))
    picture = cv2.imencode(".png", np.full((SIZE, SIZE, 3), 50 * number, np.uint8))[1].tobytes()
    for name in ("image", "wrist_image"):
        feature[f"steps/observation/{name}"].bytes_list.value.extend([picture] * STEPS)
    feature["steps/language_instruction"].bytes_list.value.extend([TASKS[number].encode()] * STEPS)
    return example.SerializeToString()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Four episodes in two files, in the fields of libero."""
    root = tmp_path_factory.mktemp("rlds") / "1.0.0"
    root.mkdir()
    image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png")
    step = {
        "observation": {"image": image, "wrist_image": image, "state": vector(8)},
        "action": vector(7),
        "language_instruction": tfds.features.Text(),
    }
    tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step)}).save_config(root)
    split = {"name": "train", "shardLengths": ["2", "2"], "numBytes": "1",
             "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}  # fmt: skip
    about = {"name": "made", "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (root / "dataset_info.json").write_text(json.dumps(about))
    for shard in range(2):
        write_records(root / SHARD.format(shard), [record(2 * shard), record(2 * shard + 1)])
    return root


def vector(size: int):
    return tfds.features.Tensor(shape=(size,), dtype=np.float32)


def opened(root: Path) -> rlds_files.RldsFiles:
    values = {"input": str(root), "mapping": rlds_files.read_mapping("libero"), "tasks": (), "episodes": 0, "cameras": (),
              "image_size": 0, "control_hz": 0.0, "val_fraction": 0.0, "on_error": "skip", "workers": 1}  # fmt: skip
    return rlds_files.open_files(RecordedSettings(**values))


def bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


FIRST = SHARD.format(0)
DAMAGE = {
    "a file is missing": (lambda r: (r / FIRST).unlink(), 2, "is missing"),
    "a folder in its place": (lambda r: ((r / FIRST).unlink(), (r / FIRST).mkdir()), 2, "is no file"),
    "a file is cut": (lambda r: (r / FIRST).write_bytes((r / FIRST).read_bytes()[:-5]), 1, "is cut: record 1"),
    "a length is damaged": (lambda r: bit(r / FIRST, 0), 2, "is cut or damaged at byte 0"),
    "a record is damaged": (lambda r: bit(r / FIRST, 40), 1, "the record at byte 12 is damaged"),
    "a record is no example": (lambda r: write_records(r / FIRST, [record(0), b"\xff" * 9]), 1, "is damaged"),
    "too few records": (lambda r: write_records(r / FIRST, [record(0)]), 1, "has 1 episodes; dataset_info.json says 2"),
    "too many records": (
        lambda r: write_records(r / FIRST, [record(0)] * 3),
        2,
        "has 3 episodes; dataset_info.json says 2",
    ),
    "a record without instruction": (lambda r: write_records(r / FIRST, [record(0), b""]), 1, "has no|has 0 numbers"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_episodes_are_left_out_and_named(what, written, tmp_path):
    damage, count, message = DAMAGE[what]
    root = Path(shutil.copytree(written, tmp_path / "set"))
    damage(root)
    with pytest.raises(ValueError, match=f"({message}).*; --on_error=skip leaves such episodes out") as error:
        converted(root, tmp_path / "w", "libero", val_fraction=0.0)
    assert "\n" not in str(error.value)
    done = converted(root, tmp_path / "w", "libero", on_error="skip", val_fraction=0.0)
    assert len(done.damaged) == count and len(done.splits["train"]) == 4 - count


def test_when_all_are_damaged_nothing_is_written(written, tmp_path):
    root = Path(shutil.copytree(written, tmp_path / "set"))
    for shard in range(2):
        (root / SHARD.format(shard)).unlink()
    with pytest.raises(ValueError, match="no good episode in .*; 4 are damaged: "):
        converted(root, tmp_path / "w", "libero", on_error="skip")
    assert not (tmp_path / "w").exists()


def test_an_array_record_that_is_damaged(written, tmp_path):
    from array_record.python import array_record_module

    root = Path(shutil.copytree(written, tmp_path / "set"))
    edit(root, fileFormat="array_record")
    for shard in range(2):
        path = root / SHARD.format(shard).replace("tfrecord", "array_record")
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for number in range(2):
            writer.write(record(2 * shard + number))
        writer.close()
    assert len(converted(root, tmp_path / "w", "libero", val_fraction=0.0).splits["train"]) == 4
    path.write_bytes(path.read_bytes()[:-9])
    done = converted(root, tmp_path / "x", "libero", on_error="skip", val_fraction=0.0)
    assert len(done.damaged) == 2 and "cannot be read" in done.damaged[0]


def edit(root: Path, **changes) -> None:
    path = root / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": 3}, "is no TFDS data set that can be read"),
        ({"version": None}, "is no TFDS data set that can be read"),
        ({"name": "../../other/made"}, "expected a file there|is no TFDS data set"),
        ({"splits": [{"name": "train", "shardLengths": ["999999999999"]}]}, "999999999999 episodes in"),
        ({"splits": []}, "has no episodes"),
    ],
)
def test_a_description_that_is_odd_is_refused(change, message, written, tmp_path):
    root = Path(shutil.copytree(written, tmp_path / "set"))
    edit(root, **change)
    with pytest.raises(ValueError, match=message) as error:
        converted(root, tmp_path / "w", "libero")
    assert "\n" not in str(error.value)


def test_no_class_is_imported_but_those_of_tfds(written, tmp_path):
    root = Path(shutil.copytree(written, tmp_path / "set"))
    path = root / "features.json"
    path.write_text(path.read_text().replace("tensorflow_datasets.core.features.text_feature.Text", "this.Text"))
    with pytest.raises(ValueError, match="pythonClassName is 'this.Text'; expected a class of tensorflow_datasets"):
        opened(root)


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
)
ODD |= st.dictionaries(st.text(max_size=2), st.integers(), max_size=1) | st.sampled_from(
    [["-3"], "1e999", "../x", 10**9]
)


def places_in(value, path=()):
    """Where each value of a JSON text is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places_in(item, (*path, key))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(["dataset_info.json", "features.json"]), st.data())
def test_whatever_the_description_says_it_is_right_or_named(written, name, data):
    path = written / name
    before = path.read_bytes()
    try:
        found = json.loads(before)
        *way, last = data.draw(st.sampled_from(list(places_in(found))))
        inner = found
        for key in way:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = data.draw(ODD)
        else:
            del inner[last]
        path.write_text(json.dumps(found))
        try:
            files = opened(written)
            for job, place in rlds_files.chosen(files.splits, None).items():
                if job not in files.check(FIELDS, files.cameras, [job], "skip"):
                    recording = files.read(place, [field for field in FIELDS if field in files.widths])
                    assert recording.instructions[0] in TASKS
        except ValueError as error:
            assert "\n" not in str(error) and str(error)
    finally:
        path.write_bytes(before)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_whatever_bytes_a_file_has_its_records_are_right_or_named(written, data):
    right, path = [record(0), record(1)], written.parent / "fuzzed"
    whole = (written / FIRST).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=20)) + whole[at + data.draw(st.integers(0, 9)) :])
    try:
        for place in tfrecord.places(path):
            assert tfrecord.read(path, *place) in right
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
