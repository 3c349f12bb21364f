"""Every reader, with one thing spoiled: refused in one line or left out, never read as something else."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2

from drifting_vla_jax.core.episode import Episode, encode_png
from drifting_vla_jax.data.sources import episode_checks, rollouts
from drifting_vla_jax.data.sources.episode_checks import SourceError
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.data.sources.rlbench import episodes as peract
from drifting_vla_jax.data.sources.rlbench import source as rlbench_source
from drifting_vla_jax.data.sources.rlds import reader as rlds_files
from tests import lerobot_fixture as fixture
from tests.data.sources import test_rlds
from tests.data.sources.test_source_checks import good, png
from tests.peract_fixture import TASKS

TOP, WRIST = fixture.SIZES
STEPS, KEY = test_rlds.STEPS, "steps/"


def lerobot(root: Path, out: Path, **changes) -> convert.Converted:
    values = {"input": str(root), "mapping": lerobot_source.read_mapping("ee_euler"), "tasks": (), "episodes": 0, "cameras": (),
              "image_size": 16, "control_hz": 0.0, "val_fraction": 0.0, "on_error": "fail", "workers": 1}  # fmt: skip
    chosen = RecordedSettings(**values | changes)
    return convert.convert(chosen, lerobot_source.open_files(chosen), out)


def edit(root: Path, episode: int, change) -> None:
    path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
    table = pq.read_table(path)
    for name, values in change({name: table[name].to_pylist() for name in table.column_names}).items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))
    pq.write_table(table, path)


def of_entry(name, entry, value, row=slice(None)):
    def change(columns):
        values = np.array(columns[name], np.float32)
        values[row, entry] = value
        return {name: values.tolist()}

    return change


def pictures(camera, make):
    return lambda columns: {camera: [{"bytes": make(row), "path": ""} for row in range(len(columns["index"]))]}


def shapes(root: Path, camera, shape, **about) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][camera] |= {"shape": shape, **about}
    (root / "meta/info.json").write_text(json.dumps(info))


def tasks(root: Path, text: str) -> None:
    lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate((fixture.TASKS[0], text))]
    (root / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")


def each(change):
    return lambda root: [edit(root, episode, change) for episode in range(3)]


LEROBOT = {
    "empty instruction": (lambda r: tasks(r, " \t"), "the instruction is empty"),
    "instruction of marks": (lambda r: tasks(r, "..."), "its instruction has no words: '...'"),
    "NaN": (lambda r: edit(r, 1, of_entry("action", 2, np.nan, 3)), "episode 1: action of row 3 is not finite"),
    "infinite": (lambda r: edit(r, 1, of_entry("observation.state", 2, -np.inf, 0)), "state of row 0 is not finite"),
    "too large": (lambda r: edit(r, 1, of_entry("action", 1, 3e38)), "a position of row 0 is"),
    "millimetres": (lambda r: edit(r, 1, of_entry("action", 0, 420.0)), "420 m from the origin; are these millimetres"),
    "degrees": (lambda r: edit(r, 1, of_entry("action", 3, 179.0)), "action.3:6. of row 0 is 179; expected radians"),
    "degrees everywhere": (each(of_entry("observation.state", 3, 179.0)), "expected radians"),
    "frozen": (
        lambda r: edit(r, 1, lambda c: {n: [c[n][0]] * 5 for n in ("action", "observation.state")}),
        "episode 1: neither state nor targets change in its 5 rows",
    ),
    "nothing moves": (
        each(of_entry("action", slice(None), 0.25)),
        "nothing moves: no number of an action changes in 3",
    ),
    "depth of 16 bits": (
        lambda r: edit(r, 1, pictures(WRIST, lambda row: png(np.full((24, 24), 900 + row, np.uint16)))),
        "has 16 bits per channel",
    ),
    "black": (each(pictures(WRIST, lambda row: encode_png(np.zeros((24, 24, 3), np.uint8)))), "view wrist: .* black"),
    "one picture": (
        each(pictures(TOP, lambda row: encode_png(fixture.picture(0, 0, TOP)))),
        "view top: .* one and the same",
    ),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return fixture.write_2(tmp_path_factory.mktemp("lerobot") / "set", images=True)


@pytest.mark.parametrize("kind", LEROBOT)
def test_lerobot(kind, recorded, tmp_path):
    spoil, message = LEROBOT[kind]
    root = shutil.copytree(recorded, tmp_path / "set")
    spoil(root)
    with pytest.raises(ValueError, match=message) as error:
        lerobot(root, tmp_path / "w")
    assert "\n" not in str(error.value)
    if kind != "depth of 16 bits":  # what only a picture itself can tell
        assert not list((tmp_path / "w").glob("**/*.npz"))
    if "--on_error" in str(error.value) and kind != "degrees everywhere":
        done = lerobot(root, tmp_path / "w", on_error="skip")
        assert len(done.splits["train"]) == 2 and len(done.damaged) == 1


def test_an_episode_that_is_there_twice(recorded, tmp_path):
    root = shutil.copytree(recorded, tmp_path / "set")
    first = pq.read_table(root / "data/chunk-000/episode_000000.parquet")
    again = first.set_column(first.column_names.index("episode_index"), "episode_index", pa.array([3] * first.num_rows))
    pq.write_table(again, root / "data/chunk-000/episode_000003.parquet")
    with (root / "meta/episodes.jsonl").open("a") as file:
        file.write(json.dumps({"episode_index": 3, "tasks": [fixture.TASKS[0]], "length": 7}) + "\n")
    with pytest.raises(ValueError, match="episode 3 is episode 0 again, pictures too; --on_error=skip leaves"):
        lerobot(root, tmp_path / "w")
    assert len(lerobot(root, tmp_path / "w", on_error="skip").splits["train"]) == 3
    look = [{"bytes": encode_png(255 - fixture.picture(0, row, TOP)), "path": ""} for row in range(7)]
    at = again.column_names.index(TOP)
    pq.write_table(
        again.set_column(at, TOP, pa.array(look, again[TOP].type)), root / "data/chunk-000/episode_000003.parquet"
    )
    assert len(lerobot(root, tmp_path / "x").splits["train"]) == 4  # other pictures: another episode


@pytest.mark.parametrize("shape, about", [
    ([24, 24, 3], {"info": {"video.is_depth_map": True}}), ([24, 24, 1], {}),
    ([1, 24, 24], {"names": ["channels", "height", "width"]}),
    ([24, 24], {"names": ["height", "width"]}), ([24, 24, 3], {"video_info": {"video.pix_fmt": "gray16le"}}),
])  # fmt: skip
def test_a_depth_map_of_lerobot_is_no_view(shape, about, recorded, tmp_path):
    root = shutil.copytree(recorded, tmp_path / "set")
    shapes(root, WRIST, shape, **about)
    assert lerobot(root, tmp_path / "w").cameras == ("top",)


@hypothesis_settings(max_examples=10, deadline=None, derandomize=True)
@given(kind=st.sampled_from([*LEROBOT]), on_error=st.sampled_from(["fail", "skip"]), hz=st.sampled_from([0.0, 5.0]))
def test_no_spoiling_of_lerobot_passes(kind, on_error, hz, recorded, tmp_path_factory):
    base = tmp_path_factory.mktemp("drawn")
    root = shutil.copytree(recorded, base / "set")
    LEROBOT[kind][0](root)
    try:
        done = lerobot(root, base / "w", on_error=on_error, control_hz=hz)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert on_error == "skip" and done.damaged
    episode_checks.check_files(done.splits)


@pytest.fixture(scope="module")
def rlds(tmp_path_factory) -> Path:
    return test_rlds.made_once(tmp_path_factory, "libero")


def numbers(name, entry, value):
    def change(features):
        found = features[KEY + name].float_list.value
        width = len(found) // STEPS
        for row in range(STEPS):
            found[row * width + entry] = value

    return change


def texts(*said):
    def change(features):
        features["steps/language_instruction"].bytes_list.value[:] = [said[row % len(said)] for row in range(STEPS)]

    return change


def still(features):
    for name, width in (("action", 7), ("observation/state", 8)):
        found = features[KEY + name].float_list.value
        found[:] = list(found[:width]) * STEPS


def files(make):
    def change(features):
        features["steps/observation/wrist_image"].bytes_list.value[:] = [make(row) for row in range(STEPS)]

    return change


RLDS = {
    "instruction changes": (texts(b"open it", b"close it"), "changes within the episode: 'close it', 'open it'"),
    "empty": (texts(b""), "has no instruction in"),
    "blank": (texts(b" \t"), "has no instruction in"),
    "marks": (texts(b"?!"), "its instruction has no words"),
    "NaN": (numbers("action", 1, np.nan), "action of row 0 is not finite"),
    "infinite": (numbers("observation/state", 1, np.inf), "state of row 0 is not finite"),
    "millimetres": (numbers("observation/state", 0, 500), "(499|500)[.0-9]* m from the origin"),
    "degrees": (numbers("observation/state", 4, 170), "is 170; expected radians"),
    "frozen": (still, "neither state nor targets change"),
    "16 bits": (files(lambda row: png(np.full((16, 16), 999, np.uint16))), "has 16 bits per channel"),
    "no pictures": (files(lambda row: b""), "cannot be decoded"),
}


class Spoiled(rlds_files.RldsFiles):
    """Records with something spoiled in those that are asked for."""

    def __init__(self, settings, spoil, which):
        super().__init__(settings)
        self._spoil, self._which = spoil, which

    def _record(self, episode):
        example = tf_example_pb2.Example.FromString(super()._record(episode))
        if self.splits[""].index(episode) in self._which:
            self._spoil(example.features.feature)
        return example.SerializeToString()


@hypothesis_settings(max_examples=12, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([*RLDS]),
    which=st.sets(st.integers(0, 3), min_size=1),
    on_error=st.sampled_from(["fail", "skip"]),
    episodes=st.sampled_from([0, 4]),
)
def test_no_spoiling_of_rlds_passes(kind, which, on_error, episodes, rlds, tmp_path_factory):
    spoil, message = RLDS[kind]
    values = {"input": str(rlds), "mapping": rlds_files.read_mapping("libero"), "tasks": (), "episodes": episodes, "cameras": (),
              "image_size": 0, "control_hz": 0.0, "val_fraction": 0.0, "on_error": on_error, "workers": 1}  # fmt: skip
    chosen = RecordedSettings(**values)
    if on_error == "fail" or len(which) == 4:
        with pytest.raises(ValueError, match=message) as error:
            convert.convert(chosen, Spoiled(chosen, spoil, which), tmp_path_factory.mktemp("w"))
        assert "\n" not in str(error.value)
    else:
        done = convert.convert(chosen, Spoiled(chosen, spoil, which), tmp_path_factory.mktemp("w"))
        assert len(done.splits["train"]) == 4 - len(which) and len(done.damaged) == len(which)
        episode_checks.check_files(done.splits)


def test_instructions_that_are_said_once_are_instructions(rlds, tmp_path):
    values = {"input": str(rlds), "mapping": rlds_files.read_mapping("libero"), "tasks": (), "episodes": 0, "cameras": (),
              "image_size": 0, "control_hz": 0.0, "val_fraction": 0.0, "on_error": "fail", "workers": 1}  # fmt: skip
    chosen = RecordedSettings(**values)
    done = convert.convert(chosen, Spoiled(chosen, texts(b"", b"open it"), {0, 1, 2, 3}), tmp_path)
    assert {Episode.load(path).instructions for path in done.splits["train"]} == {("open it",)}


PERACT = {
    "no words": (lambda d: dataclasses.replace(d, descriptions=("Open it", "")), "its instruction is empty"),
    "millimetres": (lambda d: dataclasses.replace(d, gripper_pose=d.gripper_pose * [1e3, 1e3, 1e3, 1, 1, 1, 1]), "millimetres"),
    "NaN": (lambda d: dataclasses.replace(d, gripper_pose=np.where(d.gripper_pose == d.gripper_pose[3, 0], np.nan,
            d.gripper_pose)), "finite"),
    "opening": (lambda d: dataclasses.replace(d, gripper_open=d.gripper_open * 0.08 + 7), "the gripper of row 0"),
    "frozen": (lambda d: dataclasses.replace(d, gripper_pose=d.gripper_pose[:1].repeat(len(d), 0),
               gripper_open=np.ones(len(d))), "neither state nor targets"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PERACT)
def test_no_spoiling_of_peract_passes(kind, demos, tmp_path, monkeypatch):
    spoil, message = PERACT[kind]
    read = peract.read_demo
    monkeypatch.setattr(peract, "read_demo", lambda f: spoil(read(f)) if f.name == "episode1" else read(f))
    chosen = rlbench_source.ConvertSettings(str(demos), TASKS[:1], 0, ("front",), 0, 0.0, "fail", workers=1)
    with pytest.raises(ValueError, match=f"episode1: .*{message}.*; --on_error=skip leaves"):
        rlbench_source.convert(chosen, tmp_path / "w")
    splits, _, reports = rlbench_source.convert(dataclasses.replace(chosen, on_error="skip"), tmp_path / "w")
    assert len(splits["train"]) == 2 and len(reports[0].damaged) == 1
    episode_checks.check_files(splits)


ABOUT = {"cameras": ["top"], "image_size": 8, "state_names": ["x", "y", "z"], "control_hz": 20}


def rollout(seed, rows=4) -> Episode:
    rng = np.random.default_rng(seed)
    made = good(rows)
    made.targets[:, :3] = made.state[:] = rng.uniform(0, 1, (rows, 3))
    pictures = [encode_png(rng.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(rows)]
    return Episode("push", 0, seed, ("Push it",), {"top": pictures}, made.state, made.targets, success=True)


def array(name, row, entry, value):
    def change(episode):
        values = getattr(episode, name).copy()
        values[row, entry] = value
        return dataclasses.replace(episode, **{name: values})

    return change


ROLLOUTS = {
    "no words": lambda e: dataclasses.replace(e, instructions=("",)),
    "NaN": array("actions", 1, 2, np.nan),
    "NaN in the state": array("state", 0, 0, np.nan),
    "no quaternion": array("actions", 1, 5, 0.7),
    "opening": array("actions", 2, 7, -0.5),
    "far": array("actions", 2, 1, 600.0),
    "frozen": lambda e: dataclasses.replace(e, state=e.state[:1].repeat(4, 0), actions=e.actions[:1].repeat(4, 0)),
}


@hypothesis_settings(max_examples=14, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([*ROLLOUTS]),
    which=st.sets(st.integers(0, 2), min_size=1),
    on_error=st.sampled_from(["fail", "skip"]),
)
def test_no_spoiling_of_rollouts_passes(kind, which, on_error, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    (folder / "about.json").write_text(json.dumps(ABOUT))
    for seed in range(3):
        (ROLLOUTS[kind](rollout(seed)) if seed in which else rollout(seed)).save(folder / f"push-v0-s{seed}.npz")
    chosen = rollouts.RolloutSettings(str(folder), (), 0, False, 0.0, on_error)
    if on_error == "fail" or len(which) == 3:
        with pytest.raises(ValueError, match="push-v0-s|no good episode") as error:
            rollouts.collect(chosen, folder / "out")
        assert "\n" not in str(error.value)
        return
    splits, _, report = rollouts.collect(chosen, folder / "out")
    assert len(splits["train"]) == 3 - len(which) and rollouts.report_lines({"tasks": report})[1].startswith(
        "  skipped: push"
    )
    episode_checks.check_files(splits)


def test_a_set_is_looked_at_once_more_before_it_is_written(tmp_path):
    paths = [tmp_path / f"{seed}.npz" for seed in range(3)]
    for seed, path in enumerate(paths):
        rollout(seed).save(path)
    episode_checks.check_files({"train": paths[:2], "val": paths[2:]})
    rollout(0).save(paths[2])
    with pytest.raises(SourceError, match="2 .push. is 0 again, pictures too"):
        episode_checks.check_files({"train": paths[:2], "val": paths[2:]})
    ROLLOUTS["far"](rollout(2)).save(paths[2])
    with pytest.raises(SourceError, match="2 .push.: a position of row 2"):
        episode_checks.check_files({"train": paths[:2], "val": paths[2:]})
