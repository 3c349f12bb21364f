"""What an earlier start left is used where its source is what it was, and nowhere else: content decides, not place or time."""

import importlib.metadata
import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core.episode import Episode, encode_png
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.data import build, feature_cache, tfds_writer
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources import rollouts
from drifting_vla_jax.data.sources import scripted as demonstrations
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import Faults, RecordedEpisode, RecordedSettings, RecordingError
from drifting_vla_jax.data.sources.rlbench import source as rlbench_source
from tests import lerobot_fixture as fixture
from tests.peract_fixture import TASKS

FOLDERS = "data/chunk-000", *(f"videos/chunk-000/{camera}" for camera in fixture.SIZES)


def wanted(root, **changes) -> RecordedSettings:
    values = {"input": str(root), "mapping": lerobot_source.read_mapping("ee_euler"), "tasks": (), "episodes": 0,
              "cameras": (), "image_size": 24, "control_hz": 0.0, "val_fraction": 0.4, "on_error": "fail",
              "workers": 2}  # fmt: skip
    return RecordedSettings(**values | changes)


def converted(root, out, **changes) -> convert.Converted:
    return convert.convert(wanted(root, **changes), lerobot_source.open_files(wanted(root)), out)


def contents(done) -> dict[str, list[str]]:
    return {split: [Episode.load(path).fingerprint() for path in paths] for split, paths in done.splits.items()}


def rewrite(path: Path, **columns) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))
    pq.write_table(table, path)


def delete_first(root: Path) -> None:
    """As LeRobot's tool does: what follows moves down."""
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("episode_*")):
            number = int(path.stem[-6:])
            path.rename(path.with_stem(f"episode_{number - 1:06d}")) if number else path.unlink()
    for number, path in enumerate(sorted((root / FOLDERS[0]).glob("*.parquet"))):
        rewrite(path, episode_index=[number] * pq.read_metadata(path).num_rows)
    lines = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()][1:]
    text = "".join(json.dumps(line | {"episode_index": n}) + "\n" for n, line in enumerate(lines))
    (root / "meta/episodes.jsonl").write_text(text)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    return fixture.write_2(tmp_path_factory.mktemp("kept") / "two")


@pytest.fixture
def own(two, tmp_path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "own"))


def test_a_set_mended_after_a_refused_build_is_built_of_what_it_has_now(own, tmp_path):
    """Case 01: episode 0 is broken, 1 and 2 are kept; it is deleted, and they are used under their new numbers."""
    first = own / FOLDERS[0] / "episode_000000.parquet"
    action = np.array(pq.read_table(first)["action"].to_pylist(), np.float32)
    action[2, 0] = np.nan
    rewrite(first, action=action.tolist())
    with pytest.raises(RecordingError, match="not finite"):
        converted(own, tmp_path / "out", workers=3)
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    delete_first(own)
    done = converted(own, tmp_path / "out")
    assert [len(Episode.load(path)) for path in [*done.splits["train"], *done.splits["val"]]] == [5, 9]
    assert contents(done) == contents(converted(own, tmp_path / "fresh"))
    for path in [*done.splits["train"], *done.splits["val"]]:  # nothing is done twice
        assert stamps.get(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns


def swap(a: Path, b: Path) -> None:
    a.rename(third := a.with_name("third")), b.rename(a), third.rename(b)


def picture_replaced(root: Path) -> None:
    """The other camera's film of the same episode: as many pictures, and the file's time is put back."""
    a, b = (root / folder / "episode_000002.mp4" for folder in FOLDERS[1:])
    times = a.stat().st_atime_ns, a.stat().st_mtime_ns
    shutil.copyfile(b, a)
    os.utime(a, ns=times)


def number_edited(root: Path) -> None:
    path = root / FOLDERS[0] / "episode_000001.parquet"
    before = path.stat()
    state = np.array(pq.read_table(path)["observation.state"].to_pylist(), np.float32)
    state[3, 1] += 0.01
    rewrite(path, **{"observation.state": state.tolist()})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def words_edited(root: Path) -> None:
    path = root / "meta/tasks.jsonl"
    path.write_text(path.read_text().replace("Open the drawer", "Pull the drawer"))
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace("Open the drawer", "Pull the drawer"))


def reordered(root: Path) -> None:
    for folder in FOLDERS:
        files = [sorted((root / folder).iterdir())[n] for n in (0, 2)]
        swap(*files)
    for number in (0, 2):
        path = root / FOLDERS[0] / f"episode_{number:06d}.parquet"
        rewrite(path, episode_index=[number] * pq.read_metadata(path).num_rows)
    lines = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
    lengths = [9, 5, 7]
    text = "".join(json.dumps(line | {"length": n}) + "\n" for line, n in zip(lines, lengths))
    (root / "meta/episodes.jsonl").write_text(text)


@pytest.mark.parametrize("change", [picture_replaced, number_edited, words_edited, reordered], ids=lambda f: f.__name__)
def test_what_was_changed_in_place_is_converted_again(change, own, tmp_path):
    before = converted(own, tmp_path / "out")
    change(own)
    again = converted(own, tmp_path / "out")
    assert again.content != before.content and contents(again) != contents(before)
    assert contents(again) == contents(converted(own, tmp_path / "fresh"))


def test_a_span_of_a_film_that_moves_is_converted_again(tmp_path):
    root = fixture.write_3(tmp_path / "three")
    before = contents(converted(root, tmp_path / "out"))
    film = root / f"videos/{next(iter(fixture.SIZES))}/chunk-000/file-000.mp4"
    frames = fixture.read_video(film)
    fixture.write_video(film, frames[::-1])
    after = converted(root, tmp_path / "out")
    assert before != contents(after) == contents(converted(root, tmp_path / "fresh"))


def test_the_same_recordings_elsewhere_are_the_same(own, two, tmp_path):
    assert converted(own, tmp_path / "a").content == converted(two, tmp_path / "b").content
    (own / "README.md").write_text("new")
    assert converted(own, tmp_path / "a").content == converted(two, tmp_path / "b").content


@pytest.fixture
def finished(own, tmp_path):
    """finished(settings) -> where a data set of these was built, as far as ``build`` looks at it."""

    def make(source: str, chosen, details: dict) -> Path:
        folder = tmp_path / "built" / "demonstrations" / "1.0.0"
        folder.mkdir(parents=True)
        about = {"source": source, "details": json.loads(json.dumps(details)), "episodes": {}, "state_names": []}
        (folder / "metadata.json").write_text(json.dumps(about))
        return tmp_path / "built"

    return make


def test_a_finished_set_of_other_recordings_is_refused(own, finished, tmp_path, caplog):
    chosen = wanted(own)
    out = finished("lerobot", chosen, convert.details(chosen, converted(own, tmp_path / "out")))
    assert build.build(chosen, out, "lerobot", False) == out / "demonstrations" / "1.0.0"  # left alone
    assert not caplog.messages
    delete_first(own)
    with pytest.raises(ValueError, match=r"has other recordings now \(2 episodes\) than .* was made of \(3\); choose"):
        build.build(chosen, out, "lerobot", False)
    shutil.rmtree(own)
    build.build(chosen, out, "lerobot", False)  # deleted to save room: nothing to compare with, which is said
    assert "whether its recordings have changed cannot be told" in caplog.text
    about = json.loads((out / "demonstrations/1.0.0/metadata.json").read_text())
    del about["details"]["content"]  # built before recordings were named
    (out / "demonstrations/1.0.0/metadata.json").write_text(json.dumps(about))
    assert build.build(chosen, out, "lerobot", False) == out / "demonstrations" / "1.0.0"


def test_what_is_not_asked_for_may_change(own, tmp_path):
    def content(**changes) -> str:
        return convert.content(wanted(own, **changes), lerobot_source.open_files(wanted(own)))["fingerprint"]

    few = {"tasks": ("open-the-drawer",), "cameras": ("wrist",)}
    before, whole = content(**few), content()
    picture_replaced(own)
    assert content(**few) == before and content() != whole


def test_demonstrations_that_change_places_are_converted_again(demos, finished, tmp_path):
    own = Path(shutil.copytree(demos, tmp_path / "demos"))
    chosen = rlbench_source.ConvertSettings(str(own), TASKS, 0, ("front",), 0, 0.1, "fail", workers=2)
    splits, _, reports = rlbench_source.convert(chosen, tmp_path / "out")
    built = rlbench_source.details(chosen, reports)
    out = finished("peract", chosen, built)
    build.build(chosen, out, "peract", False)
    base = own / f"train/{TASKS[0]}/all_variations/episodes"
    swap(base / "episode0", base / "episode2")
    again, _, reports = rlbench_source.convert(chosen, tmp_path / "out")
    before, after = ([Episode.load(p).fingerprint() for p in s["train"] + s["val"]] for s in (splits, again))
    fresh = rlbench_source.convert(chosen, tmp_path / "fresh")[0]
    assert before != after == [Episode.load(p).fingerprint() for p in fresh["train"] + fresh["val"]]
    with pytest.raises(ValueError, match="has other recordings now"):
        build.build(chosen, out, "peract", False)
    picture = base / "episode1/front_rgb/3.png"
    picture.write_bytes(encode_png(np.full((64, 64, 3), 7, np.uint8)))
    assert rlbench_source.content(chosen, built["tasks"]) != rlbench_source.details(chosen, reports)["content"]


def test_rollouts_that_are_added_are_not_passed_over(finished, tmp_path):
    folder = tmp_path / "eval" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text(json.dumps({"cameras": ["top"], "image_size": 8, "state_names": ["x"] * 10}))
    picture, quaternion = encode_png(np.zeros((8, 8, 3), np.uint8)), [0, 0, 0, 0, 0, 0, 1, 1]
    episode = Episode("push", 0, 0, ("push",), {"top": [picture]}, np.zeros((1, 10), np.float32),
                      np.array([quaternion], np.float32), success=True)  # fmt: skip
    episode.save(folder / "push-v0-s0.npz")
    chosen = rollouts.RolloutSettings(str(tmp_path / "eval"), (), 0, False, 0.0)
    out = finished("rollouts", chosen, {"content": rollouts.content(chosen)})
    build.build(chosen, out, "rollouts", False)
    replace(episode, seed=1).save(folder / "push-v0-s1.npz")
    with pytest.raises(ValueError, match=r"has other recordings now \(2 episodes\)"):
        build.build(chosen, out, "rollouts", False)


@dataclass
class Recorded:
    """A format of recordings in memory: each is a number and a length."""

    episodes: list[tuple[int, int]]
    hz: float = 10.0
    revision: str = ""

    def __post_init__(self):
        self.widths, self.names, self.cameras = {"observation.state": 7, "action": 7}, {}, ["observation.images.top"]
        self.odd, self.splits = {}, {"": self.episodes}

    def check(self, fields, cameras, jobs, on_error):
        return Faults(on_error)

    def task_of(self, episode):
        return "Go"

    def read(self, episode, fields):
        number, length = episode
        rng = np.random.default_rng(number)
        arrays = {name: rng.uniform(0, 1, (length, 7)) for name in fields}
        if not number:
            arrays["action"][0, 0] = np.nan
        files = [encode_png(np.full((8, 8, 3), 40 * number + 9 + row, np.uint8)) for row in range(length)]
        return RecordedEpisode(f"{number}", ("Go",), arrays, lambda _, rows: (files[row] for row in rows))

    def fingerprint(self, episode, fields, cameras):
        return fingerprint(episode)


RECORDINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(2, 3)), min_size=1, max_size=4)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(RECORDINGS, min_size=2, max_size=3), st.sampled_from(["fail", "skip"]))
def test_whatever_was_there_before_a_set_is_built_of_what_is_there_now(tmp_path_factory, history, on_error):
    """Deleted, doubled, reordered, broken and mended: as if nothing had been there."""

    def outcome(episodes, out):
        chosen = wanted("memory", on_error=on_error, image_size=8)
        try:
            done = convert.convert(chosen, Recorded(episodes), out)
        except RecordingError as error:
            return str(error)
        return contents(done), done.content, done.damaged

    kept = tmp_path_factory.mktemp("kept")
    for episodes in history:
        assert outcome(episodes, kept) == outcome(episodes, tmp_path_factory.mktemp("fresh"))


def test_a_verdict_is_of_the_episode_that_was_replayed(tmp_path, monkeypatch):
    """An episode that was copied in keeps its old time; the verdict beside it is another's."""
    path, seen = tmp_path / "00000.npz", []
    picture, still = encode_png(np.zeros((8, 8, 3), np.uint8)), np.array([[0, 0, 0, 0, 0, 0, 1, 1]], np.float32)
    first = Episode("push", 0, 0, ("push",), {"top": [picture]}, np.zeros((1, 4), np.float32), still)
    monkeypatch.setattr(
        demonstrations, "replay", lambda env, episode, steps: seen.append(episode.seed) or not episode.seed
    )
    how = SimpleNamespace(hold_steps=1)
    for episode in (first, first, replace(first, seed=1)):
        episode.save(path)
        os.utime(path, (1, 1))
        assert demonstrations._verdict(None, how, path, Episode.load(path)) == (episode.seed == 0)
    assert seen == [0, 1]


def test_a_built_set_names_its_content_and_features_follow_it(dataset_path, tmp_path):
    dataset = DataSet(dataset_path, ())
    told = dataset.metadata
    assert len(told["fingerprint"]) == 32 and all(len(e["content"]) == 32 for s in told["episodes"].values() for e in s)
    assert feature_cache.fingerprint(dataset) == told["fingerprint"]
    again = SimpleNamespace(metadata=told | {"datasheet": {"made_at": "later"}}, folder=tmp_path)
    assert feature_cache.fingerprint(again) == told["fingerprint"]  # built again of the same: features stay good
    (tmp_path / "metadata.json").write_text("{}")
    assert len(feature_cache.fingerprint(SimpleNamespace(metadata={}, folder=tmp_path))) == 16  # of before


def test_what_lies_where_a_set_is_to_be_is_not_taken_for_it(tmp_path):
    tfds_writer.folder(tmp_path).mkdir(parents=True)
    about = tfds_writer.About("test", ("top",), 8, tuple("xyzg"), 20.0, {})
    with pytest.raises(FileExistsError, match="is there and no whole data set; move it away"):
        tfds_writer.write(tmp_path, {"train": [tmp_path / "0.npz"]}, about)


def test_a_finished_set_of_another_simulator_is_said(finished, monkeypatch, caplog):
    chosen = demonstrations.CollectSettings(
        ("drawer-open",), 2, ("top",), 64, 2, 0.4, 12, 2, 0, 0.1, 0.95, 1, "metaworld"
    )
    about = {"settings": asdict(chosen), "recorded": chosen.recorded()}
    out = finished("metaworld", chosen, about)
    build.build(chosen, out, "metaworld", False)
    assert not caplog.messages
    monkeypatch.setattr(demonstrations, "RECORDER", 99)
    build.build(chosen, out, "metaworld", False)
    assert "it would be recorded otherwise now: recorder 6 -> 99" in caplog.text
    monkeypatch.setattr(
        demonstrations.CollectSettings, "recorded", lambda _: importlib.metadata.version("no-such-simulator")
    )
    build.build(chosen, out, "metaworld", False)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("damage", [b"", b"PK half", "cut"])
def test_an_episode_file_that_is_damaged_is_named(damage, tmp_path):
    path = tmp_path / "push.npz"
    Episode(
        "push", 0, 0, ("push",), {}, np.zeros((1, 4), np.float32), np.array([[0, 0, 0, 0, 0, 0, 1, 1]], np.float32)
    ).save(path)
    path.write_bytes(path.read_bytes()[:200] if damage == "cut" else damage)
    with pytest.raises(ValueError, match=r"push\.npz is no whole episode: .*; delete it"):
        Episode.load(path)


def test_a_picture_in_a_table_that_is_replaced_is_converted_again(tmp_path):
    root = fixture.write_2(tmp_path / "set", images=True)
    before = contents(converted(root, tmp_path / "out"))
    path, camera = root / FOLDERS[0] / "episode_000001.parquet", next(iter(fixture.SIZES))
    column = pq.read_table(path)[camera].to_pylist()
    rewrite(path, **{camera: column[::-1]})
    assert before != contents(converted(root, tmp_path / "out")) == contents(converted(root, tmp_path / "fresh"))
