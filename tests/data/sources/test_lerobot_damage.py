"""LeRobot's data sets that are damaged in places: what is left out, what is refused, what is not looked at at all."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.data.sources.lerobot import index as lerobot_index
from drifting_vla_jax.data.sources.lerobot.reader import LeRobotFiles
from tests import lerobot_fixture as fixture
from tests.data.sources.test_lerobot import columns, converted, edit, film, replaced, rewrite

TOP, WRIST = fixture.SIZES
INFO, EPISODES = "meta/info.json", "meta/episodes/chunk-000/file-000.parquet"
DATA, VIDEO = "data/chunk-000/episode_000001.parquet", f"videos/chunk-000/{TOP}/episode_000001.mp4"
FIELDS = ("observation.state", "action")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("damage")
    return {"2.1": fixture.write_2(root / "two"), "3.0": fixture.write_3(root / "three")}


@pytest.fixture
def sets(written, tmp_path):
    """sets(version) -> a copy to damage."""
    return lambda version: shutil.copytree(written[version], tmp_path / "set")


def lines(root: Path, name: str, change) -> None:
    path = root / "meta" / name
    found = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(line)) + "\n" for line in found))


def entries(root: Path, change) -> None:
    """``change`` of the rows of meta/episodes, in place."""
    path = root / EPISODES
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def without_length(line: dict) -> dict:
    return {k: v for k, v in line.items() if k != "length" or line["episode_index"] != 1}


DAMAGE = {
    "rows that are missing": lambda r: rewrite(r / DATA, lambda t: t.slice(0, 3)),
    "no rows at all": lambda r: rewrite(r / DATA, lambda t: t.slice(0, 0)),
    "damaged rows": lambda r: (r / DATA).write_bytes(b"PAR1"),
    "a folder in their place": lambda r: ((r / DATA).unlink(), (r / DATA).mkdir()),
    "rows of another task": lambda r: columns(r, "task_index", [9] * 5),
    "a time that is none": lambda r: columns(r, "timestamp", [0, None, 0.2, 0.3, 0.4]),
    "times that drift": lambda r: columns(r, "timestamp", [0, 0.1, 0.2, 0.3, 0.45]),
    "text for numbers": lambda r: rewrite(r / DATA, lambda t: t.drop(["action"]).append_column("action", [["1"] * 5])),
    "no column": lambda r: rewrite(r / DATA, lambda t: t.drop(["action"])),
    "no video": lambda r: (r / VIDEO).unlink(),
    "a short video": lambda r: film(r, 4, 10),
    "a video that cannot be decoded": lambda r: spoil_pictures(r / VIDEO),
    "an entry without length": lambda r: lines(r, "episodes.jsonl", without_length),
}


def spoil_pictures(path: Path) -> None:
    """Zeros where the pictures are; the header stays as it was."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = bytes(end - start) if end > start else b""
    path.write_bytes(data)


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_episode_is_left_out_and_named_or_not_looked_at(what, sets, tmp_path):
    root = sets("2.1")
    DAMAGE[what](root)
    with pytest.raises(ValueError, match="--on_error=skip leaves such episodes out and counts them") as error:
        converted(root, tmp_path / "w")
    assert "\n" not in str(error.value)
    done = converted(root, tmp_path / "w", on_error="skip")
    assert len(done.splits["train"]) == 2 and len(done.damaged) == 1 and "1" in done.damaged[0]
    others = converted(root, tmp_path / "x", tasks=("pick-up-the-cube",))
    assert len(others.splits["train"]) == 2 and not others.damaged


def test_when_all_are_damaged_nothing_is_written(sets, tmp_path):
    root = sets("2.1")
    shutil.rmtree(root / "data")
    with pytest.raises(ValueError, match="no good episode in .*; 3 are damaged: .*000000.parquet is missing"):
        converted(root, tmp_path / "w", on_error="skip")
    assert not (tmp_path / "w").exists()


def test_what_concerns_the_whole_set_cannot_be_skipped(sets, tmp_path):
    root = sets("2.1")
    (root / INFO).unlink()
    with pytest.raises(ValueError, match="info.json is missing"):
        converted(root, tmp_path / "w", on_error="skip")


def test_a_camera_that_nobody_asked_for_is_not_looked_at(sets, tmp_path):
    root = sets("2.1")
    (root / VIDEO).unlink()
    assert len(converted(root, tmp_path / "w", cameras=("wrist",)).splits["train"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": "30"}, "info.json: fps is '30'; expected a number above 0"),
        ({"fps": True}, "fps is True"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"codebase_version": 2.1}, "codebase_version is 2.1; expected a text"),
        ({"codebase_version": "v3.1"}, "codebase_version v3.1; expected one of .*; LeRobot's own scripts convert"),
        ({"chunks_size": 0}, "chunks_size is 0; expected a whole number of at least 1"),
        ({"features": []}, r"features is list \[\]; expected an object"),
        ({"features": {"action": {"dtype": "float32"}}}, "features: action: shape is missing"),
        ({"data_path": "{episode_index.__class__}"}, "data_path is .*; expected a path with some of {episode_chunk}"),
        ({"data_path": "{episode_index:0999999999d}"}, "data_path is .*; expected a path with some of"),
        ({"data_path": "{chunk_index}.parquet"}, "data_path is .*; expected a path with some of {episode_chunk}"),
        ({"data_path": "{"}, "data_path is .*; expected a path with some of"),
        ({"video_path": "{episode_index}.mp4"}, "{video_key} in it, for there are several cameras"),
        ({"splits": {"train": "0:2", "val": "1:3"}}, "episode 1 is in train and in val"),
        ({"splits": {"train": "0:2", "val": "2:4"}}, "val is '2:4'; expected \"first:after\" of the episodes 0:3"),
        ({"splits": {"train": "0:2", "val": ":3"}}, "val is ':3'; expected"),
    ],
)
def test_a_field_of_info_that_is_odd_is_named(change, message, sets):
    root = sets("2.1")
    edit(root / INFO, **change)
    with pytest.raises(ValueError, match=message) as error:
        LeRobotFiles(str(root))
    assert "\n" not in str(error.value)


def test_entries_that_stand_twice_are_refused(sets):
    root = sets("2.1")
    lines(root, "episodes.jsonl", lambda line: line | {"episode_index": 0})
    with pytest.raises(ValueError, match="names episode 0 twice"):
        LeRobotFiles(str(root))
    lines(root, "tasks.jsonl", lambda line: line | {"task_index": 0})
    with pytest.raises(ValueError, match="tasks.jsonl, line 2: task_index 0 is there twice"):
        LeRobotFiles(str(root))


def tasks_in_pandas_index(table: pa.Table) -> pa.Table:
    texts = pa.table({"task": ["a", "b"], "task_index": [0, 1], "instruction": list(fixture.TASKS)})
    return texts.replace_schema_metadata({"pandas": json.dumps({"index_columns": ["instruction"]})})


def recoded(table: pa.Table) -> pa.Table:
    """The same numbers in other widths and encodings, and a column more."""
    for name, kind in [("task_index", pa.uint8()), ("episode_index", pa.int32()), ("frame_index", pa.float64())]:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    table = table.set_column(
        table.column_names.index("task_index"), "task_index", table["task_index"].dictionary_encode()
    )
    action = table["action"].combine_chunks()
    lists = pa.LargeListArray.from_arrays(np.arange(len(action) + 1) * 7, action.flatten())
    table = table.set_column(table.column_names.index("action"), "action", pa.chunked_array([lists[:2], lists[2:]]))
    return table.append_column("__index_level_0__", pa.array(range(table.num_rows)))


@pytest.mark.parametrize(
    "tasks",
    [
        tasks_in_pandas_index,
        lambda t: pa.table({"kind": ["x", "y"], "task_index": [0, 1], "task": list(fixture.TASKS)}),
        lambda t: pa.table(
            {"text": pa.array(fixture.TASKS, pa.large_string()), "task_index": pa.array([0, 1], pa.int16())}
        ),
        lambda t: pa.table(
            {"task": pa.array(fixture.TASKS).dictionary_encode(), "task_index": [0, 1], "more": [None, 2]}
        ),
    ],
)
def test_tables_in_other_forms_give_the_same(tasks, sets, tmp_path):
    root = sets("3.0")
    rewrite(root / "meta/tasks.parquet", tasks)
    rewrite(root / "data/chunk-000/file-000.parquet", recoded)
    files = LeRobotFiles(str(root))
    assert not files.check(FIELDS, [])
    for index, episode in enumerate(files.splits[""]):
        found = files.read(episode, FIELDS)
        assert found.instructions == (fixture.TASKS[fixture.OF_EPISODE[index]],)
        np.testing.assert_array_equal(found.arrays["action"], fixture.numbers(index)[1])


def test_a_table_of_tasks_that_leaves_it_open_is_refused(sets):
    root = sets("3.0")
    rewrite(root / "meta/tasks.parquet", lambda t: pa.table({"a": ["x", "y"], "task_index": [0, 1], "b": ["v", "w"]}))
    with pytest.raises(ValueError, match="tasks.parquet has columns a, task_index, b; expected task_index and task"):
        LeRobotFiles(str(root))


def moved(index: int, pictures: float, ends: tuple[str, ...] = ("from", "to")):
    def change(rows: list[dict]) -> None:
        for end in ends:
            rows[index][f"videos/{WRIST}/{end}_timestamp"] += pictures / fixture.FPS

    return change


SPANS = {
    "one early": (moved(1, -1), {1}),
    "one late": (moved(1, 1), {1}),
    "the first late": (moved(0, 1), {0}),
    "the last early": (moved(2, -1), {2}),
    "the last late, past the end": (moved(2, 1), {2}),
    "only its beginning": (moved(1, -1, ("from",)), {1}),
    "longer than its rows": (moved(2, 1, ("to",)), {2}),
    "none known": (lambda rows: rows[1].update({f"videos/{WRIST}/from_timestamp": None}), {1}),
    "before the file begins": (moved(0, -1), {0}),
    "rows that are not its own": (lambda rows: rows[1].update(dataset_to_index=13), {1}),
}


@pytest.mark.parametrize("what", SPANS)
def test_spans_of_pictures_must_be_disjoint_and_cover(what, sets):
    change, bad = SPANS[what]
    root = sets("3.0")
    entries(root, change)
    files = LeRobotFiles(str(root))
    with pytest.raises(ValueError, match="episode|meta/") as error:
        files.check(FIELDS, (WRIST,))
    assert "\n" not in str(error.value)
    assert {number for _, number in files.check(FIELDS, (WRIST,), on_error="skip")} == bad
    of_others = [("", number) for number in range(3) if number not in bad]
    assert not files.check(FIELDS, (WRIST,), of_others)


def test_spans_that_were_right_stay_so(sets):
    """Rounding, an episode that meta/ no longer names, entries without an end, files one after the other."""
    root = sets("3.0")
    entries(root, lambda rows: moved(1, 0.01)(rows) or rows[0].pop("dataset_from_index"))
    assert not LeRobotFiles(str(root)).check(FIELDS, (WRIST, TOP))
    rewrite(root / EPISODES, lambda t: t.drop([c for c in t.column_names if c.endswith("to_timestamp")]))
    assert not LeRobotFiles(str(root)).check(FIELDS, (WRIST,))
    entries(root, lambda rows: rows.pop(1))
    assert not LeRobotFiles(str(root)).check(FIELDS, (WRIST,))


def test_a_video_of_more_pictures_than_all_episodes_have_rows_is_refused(sets):
    root = sets("3.0")
    path = root / f"videos/{WRIST}/chunk-000/file-000.mp4"
    fixture.write_video(path, [fixture.picture(0, row, WRIST) for row in range(22)])
    with pytest.raises(ValueError, match="has 22 pictures; its episodes have 21 rows"):
        LeRobotFiles(str(root)).check(FIELDS, (WRIST,))


def test_hours_at_thirty_per_second_pass(sets, monkeypatch):
    """float32 seconds of rows, and sums of float seconds of spans, as LeRobot writes them."""
    hz, length, count = 30.0, 30 * 3600 * 12, 3
    clips, at = [], 0.0
    for index in range(count):
        clip = lerobot_index.Clip(Path("a.mp4"), float(np.float32(at)), float(np.float32(at + length / hz)))
        clips.append(lerobot_index.EpisodeLocation(index, length, (), Path(), {"c": clip}))
        at += length / hz
    assert not lerobot_index.misplaced(clips, "c", hz)
    root = sets("2.1")
    files = LeRobotFiles(str(root))
    own = {"frame_index": np.arange(length), "timestamp": (np.arange(length) / hz).astype(np.float32),
           "episode_index": np.zeros(length, int), "task_index": np.zeros(length, int)}  # fmt: skip
    files.hz, files._table = hz, lambda path, columns: pa.table(own)
    assert files._rows(clips[0], ())[1] == fixture.TASKS[0]


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
)
ODD |= st.sampled_from(
    ["../x", "{episode_index.__class__}", "0:9", "v2.0", {}, {"train": "0:1", "val": "1:2"}, "\0", 1e300]
)


def opened(root: Path) -> None:
    """Either what is there is right, or one line says what is not."""
    try:
        files = LeRobotFiles(str(root))
        faults = files.check(FIELDS, list(fixture.SIZES), on_error="skip")
        for split, episodes in files.splits.items():
            for number, episode in enumerate(episodes):
                if (split, number) not in faults:
                    found = files.read(episode, FIELDS)
                    assert found.instructions[0] in fixture.TASKS
                    np.testing.assert_array_equal(found.arrays["action"], fixture.numbers(episode.index)[1])
    except ValueError as error:
        assert "\n" not in str(error) and str(error)


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_whatever_meta_says_it_is_right_or_named(written, data):
    """One field of meta/ is another value, or gone."""
    version, root = data.draw(st.sampled_from(sorted(written.items())))
    place = data.draw(st.sampled_from(["info", "feature", "episode", "task"]))
    files = {"2.1": ("meta/episodes.jsonl", "meta/tasks.jsonl"), "3.0": (EPISODES, "meta/tasks.parquet")}[version]
    path = root / {"episode": files[0], "task": files[1]}.get(place, INFO)
    before = path.read_bytes()
    try:
        if path.suffix == ".json":
            found = json.loads(before)
            changed = (
                found if place == "info" else found["features"][data.draw(st.sampled_from(sorted(found["features"])))]
            )
            keep = {"total_tasks", "total_frames", "robot_type"}
            spoil(changed, data, keep)
            path.write_text(json.dumps(found))
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in before.splitlines()]
            spoil(data.draw(st.sampled_from(rows)), data, {"task"})
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            table = pq.read_table(path)
            name = data.draw(st.sampled_from([n for n in table.column_names if "level" not in n]))
            if data.draw(st.booleans()):
                table = table.drop([name])
            else:
                values = table[name].to_pylist()
                values[data.draw(st.integers(0, len(values) - 1))] = data.draw(ODD)
                try:
                    table = replaced(table, name, values)
                except (pa.ArrowException, OverflowError, TypeError, ValueError):
                    table = table.set_column(0, name, pa.array([str(value) for value in values]))
            pq.write_table(table, path)
        opened(root)
    finally:
        path.write_bytes(before)


def spoil(fields: dict, data, keep: set[str]) -> None:
    name = data.draw(st.sampled_from(sorted(set(fields) - keep)))
    if data.draw(st.booleans()):
        del fields[name]
    else:
        fields[name] = data.draw(ODD)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.sampled_from([INFO, "meta/tasks.jsonl", "meta/episodes.jsonl", DATA]), st.data())
def test_damaged_bytes_are_right_or_named(written, name, data):
    path = written["2.1"] / name
    before = path.read_bytes()
    try:
        at = data.draw(st.integers(0, len(before) - 1))
        path.write_bytes(before[:at] + data.draw(st.binary(max_size=3)))
        try:
            LeRobotFiles(str(written["2.1"])).check(FIELDS, [])
        except ValueError as error:
            assert "\n" not in str(error)
    finally:
        path.write_bytes(before)
