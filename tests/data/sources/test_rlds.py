"""RLDS, written by tensorflow_datasets' own tools (rlds_fixture.py), read without tensorflow by the mappings of a name."""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.data.sources.rlds import reader as rlds_files
from drifting_vla_jax.data.sources.rlds import tfrecord
from tests.rlds_fixture import (  # noqa: F401 - some for who makes other sets of the same fields
    EPISODES,
    FORMATS,
    SIZE,
    STEP,
    STEPS,
    TEXT,
    build,
    drawn,
    episodes,
    unpack,
)
from tests.small import apart

ROOT = Path(__file__).parents[3]


MADE = []


def made_once(tmp_path_factory, name) -> Path:
    """The folder of this data set, unpacked once, whichever tests ask for it."""
    if not MADE:
        MADE.append(unpack(tmp_path_factory.mktemp("rlds")))
    return MADE[0] / name / "1.0.0"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """sets(name) -> its folder."""
    return functools.partial(made_once, tmp_path_factory)


def converted(root, out, name, **changes) -> convert.Converted:
    values = {"input": str(root), "mapping": rlds_files.read_mapping(name), "tasks": (), "episodes": 0, "cameras": (),
              "image_size": 0, "control_hz": 0.0, "val_fraction": 0.25, "on_error": "fail", "workers": 1}  # fmt: skip
    settings = RecordedSettings(**values | changes)
    return convert.convert(settings, rlds_files.open_files(settings), out)


def content(done: convert.Converted) -> list[str]:
    """The fingerprint of every episode."""
    return [Episode.load(path).fingerprint() for path in [*done.splits["train"], *done.splits["val"]]]


def columns(steps, *names) -> np.ndarray:
    """[t, k] of a field of every step."""
    values = []
    for step in steps:
        for name in names:
            step = step[name]
        values.append(step)
    return np.array(values)


def by_first_state(done, recorded, *names) -> dict:
    """TFDS shuffles episodes: {file: the steps it was made from}, by the first position."""
    pairs = []
    for path in [*done.splits["train"], *done.splits["val"]]:
        episode = Episode.load(path)
        pairs += [
            (episode, steps) for steps in recorded if np.allclose(columns(steps, *names)[0, :3], episode.state[0, :3])
        ]
    assert len(pairs) == EPISODES
    return pairs


@pytest.mark.slow
def test_libero(sets, tmp_path):
    done = converted(sets("libero"), tmp_path, "libero")
    assert done.control_hz == 20 and done.cameras == ("front", "wrist") and done.image_size == SIZE
    assert [len(done.splits[split]) for split in ("train", "val")] == [3, 1]
    for episode, steps in by_first_state(done, list(episodes("libero")), "observation", "state"):
        state, action = columns(steps, "observation", "state"), columns(steps, "action")
        np.testing.assert_array_equal(episode.state[:, :3], state[:, :3])
        np.testing.assert_allclose(episode.state[:, 9], np.clip(state[:, 6] / 0.04, 0, 1), atol=1e-6)
        np.testing.assert_allclose(episode.actions[:, :3], state[:, :3] + 0.05 * action[:, :3], atol=1e-6)
        turned = Rotation.from_rotvec(0.5 * action[:, 3:6]) * Rotation.from_rotvec(state[:, 3:6])
        np.testing.assert_allclose(episode.actions[:, 3:7], turned.as_quat(canonical=True), atol=1e-6)
        np.testing.assert_allclose(episode.actions[:, 7], (1 - action[:, 6]) / 2, atol=1e-6)
        assert episode.task == "put-it-there" and episode.instructions == ("Put it there",)
        assert episode.images["front"][0].startswith(b"\xff\xd8")  # the JPEG file as it was
        for camera in ("front", "wrist"):
            shades = [int(decode_image(data).mean().round()) for data in episode.images[camera]]
            assert shades == [20 * step + 10 for step in range(STEPS)]


@pytest.mark.slow
def test_fractal_says_changes_of_its_gripper(sets, tmp_path):
    done = converted(sets("fractal"), tmp_path, "fractal")
    assert done.control_hz == 3
    recorded = list(episodes("fractal"))
    for episode, steps in by_first_state(done, recorded, "observation", "base_pose_tool_reached"):
        pose = columns(steps, "observation", "base_pose_tool_reached").astype(float)
        delta, turn = columns(steps, "action", "world_vector"), columns(steps, "action", "rotation_delta")
        np.testing.assert_allclose(episode.actions[:, :3], pose[:, :3] + delta, atol=1e-6)
        turned = Rotation.from_euler("xyz", turn) * Rotation.from_quat(pose[:, 3:])
        np.testing.assert_allclose(episode.actions[:, 3:7], turned.as_quat(canonical=True), atol=1e-5)
        words = columns(steps, "action", "gripper_closedness_action")[:, 0]
        before = float(words[1] > 0)  # rows 1 and 4 speak; a hand that is told to close was open
        np.testing.assert_array_equal(
            episode.actions[:, 7], [before, *[float(words[1] < 0)] * 3, *[float(words[4] < 0)] * 2]
        )


@pytest.mark.slow
def test_bridge_leaves_the_first_row_out_and_aims_at_what_was_reached(sets, tmp_path):
    done = converted(sets("bridge"), tmp_path, "bridge")
    assert done.control_hz == 5
    recorded = [steps[1:] for steps in episodes("bridge")]
    for episode, steps in by_first_state(done, recorded, "observation", "state"):
        state, action = columns(steps, "observation", "state"), columns(steps, "action")
        assert len(episode) == STEPS - 2
        np.testing.assert_array_equal(episode.actions[:, :3], state[1:, :3])
        turned = Rotation.from_euler("xyz", state[1:, 3:6]).as_quat(canonical=True)
        np.testing.assert_allclose(episode.actions[:, 3:7], turned, atol=1e-6)
        np.testing.assert_array_equal(episode.actions[:, 7], np.clip(action[:-1, 6], 0, 1))
        assert int(decode_image(episode.images["front"][0]).mean()) == 30


@pytest.mark.slow
def test_droid_has_absolute_poses_and_three_paraphrases(sets, tmp_path):
    done = converted(sets("droid"), tmp_path, "droid", control_hz=7.5)
    assert done.control_hz == 7.5 and done.cameras == ("side", "wrist")
    recorded = list(episodes("droid"))
    for episode, steps in by_first_state(done, recorded, "observation", "cartesian_position"):
        aimed, gripper = (
            columns(steps, "action_dict", "cartesian_position"),
            columns(steps, "action_dict", "gripper_position"),
        )
        np.testing.assert_array_equal(episode.actions[:, :3], aimed[1::2, :3])
        np.testing.assert_allclose(episode.actions[:, 7], 1 - np.clip(gripper[1::2, 0], 0, 1), atol=1e-6)
        assert episode.instructions == ("Put it there", "Put it there_2")  # the third is empty


def test_joints_of_droid_instead_of_poses(sets, tmp_path):
    """Only what is read changes; the data set gives its numbers no names, so the mapping does."""
    gripper, names = {"open": 0, "closed": 1, "names": ["gripper"]}, [f"joint_{i}" for i in range(1, 8)]
    no_pose = dict.fromkeys(("position", "rotation", "gripper"))
    mapping = {"preset": "droid", "layout": "joints",
               "state": no_pose | {"joints": "observation/joint_position",
                                   "grippers": gripper | {"field": "observation/gripper_position"}},
               "action": no_pose | {"joints": {"field": "action_dict/joint_position", "names": names},
                                    "grippers": gripper | {"field": "action_dict/gripper_position"}}}  # fmt: skip
    (tmp_path / "joints.json").write_text(json.dumps(mapping))
    done = converted(sets("droid"), tmp_path / "w", str(tmp_path / "joints.json"))
    assert done.layout.joints == tuple(names) and done.state_names == (*names, "gripper")
    for episode, steps in by_first_state(done, list(episodes("droid")), "observation", "joint_position"):
        np.testing.assert_array_equal(episode.state[:, :7], columns(steps, "observation", "joint_position"))
        np.testing.assert_array_equal(episode.actions[:, :7], columns(steps, "action_dict", "joint_position"))
        told = columns(steps, "action_dict", "gripper_position")
        np.testing.assert_allclose(episode.actions[:, 7], 1 - np.clip(told[:, 0], 0, 1), atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("tensorflow"), reason="the extra [parity] is not installed")
def test_the_stored_sets_are_what_tfds_writes(sets, tmp_path):
    for name, file_format in FORMATS.items():
        fresh, stored = apart(build, name, tmp_path / name, file_format), sets(name)
        assert (fresh / "features.json").read_text() == (stored / "features.json").read_text()
        assert sorted(p.name for p in fresh.iterdir()) == sorted(p.name for p in stored.iterdir())
        made = [converted(root, tmp_path / str(k) / name, name) for k, root in enumerate((fresh, stored))]
        assert content(made[0]) == content(made[1])


@pytest.mark.slow
def test_tensorflow_is_not_needed_to_read(sets, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from tests.data.sources.test_rlds import converted\n"
        f"converted({str(sets('libero'))!r}, Path({str(tmp_path)!r}), 'libero')\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_broken_input_is_named_before_anything_is_written(sets, tmp_path):
    root = Path(shutil.copytree(sets("libero"), tmp_path / "set"))
    shard = sorted(root.glob("*.tfrecord*"))[0]
    whole = shard.read_bytes()

    def refuses(message, name="libero"):
        with pytest.raises(ValueError, match=message) as error:
            converted(root, tmp_path / "w", name)
        assert not (tmp_path / "w").exists() and "\n" not in str(error.value)

    shard.write_bytes(whole[:-3])
    refuses("is cut: record 1 ends at byte")
    shard.write_bytes(whole[: 16 + int.from_bytes(whole[:8], "little")])
    refuses("has 1 episodes; dataset_info.json says 2")
    shard.unlink()
    refuses("tfrecord-00000-of-00002 is missing")
    shard.write_bytes(whole)
    refuses(
        "the data set has no text 'observation/natural_language_instruction'; it has episode_metadata/file_path",
        "fractal",
    )
    refuses("no pictures 'observation/image_0'; did you mean 'observation/image'?", "bridge")
    (root / "dataset_info.json").unlink()
    refuses("set has no dataset_info.json")


@pytest.mark.slow
def test_a_damaged_record_ends_it_or_is_skipped_and_counted(sets, tmp_path):
    root = Path(shutil.copytree(sets("libero"), tmp_path / "set"))
    shard = sorted(root.glob("*.tfrecord*"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(
        ValueError, match="the record at byte 12 is damaged .*; --on_error=skip leaves such episodes out"
    ):
        converted(root, tmp_path / "w", "libero")
    done = converted(root, tmp_path / "w", "libero", on_error="skip")
    assert len(done.damaged) == 1 and sum(map(len, done.splits.values())) == EPISODES - 1


def test_what_rlds_leaves_open_the_mapping_must_say(tmp_path):
    file = tmp_path / "arm.json"
    file.write_text('{"preset": "libero", "control_hz": null}')
    with pytest.raises(
        ValueError, match="control_hz is missing; RLDS does not say how many steps there are per second"
    ):
        rlds_files.read_mapping(str(file))


@pytest.mark.slow
def test_records_that_change_places_are_converted_again(sets, tmp_path):
    """One file's two records, the same bytes in another order; what was converted before is used, each for its own."""
    root = Path(shutil.copytree(sets("libero"), tmp_path / "libero"))
    before = converted(root, tmp_path / "out", "libero")
    file = max(root.glob("*.tfrecord-*"), key=lambda path: len(tfrecord.places(path)))
    data, places = file.read_bytes(), tfrecord.places(file)
    assert len(places) > 1
    records = [data[start - tfrecord.HEADER : start + length + tfrecord.FOOTER] for start, length in places]
    file.write_bytes(b"".join(records[::-1]))
    after, fresh = (converted(root, tmp_path / out, "libero") for out in ("out", "fresh"))
    found = [content(done) for done in (before, after, fresh)]
    assert found[0] != found[1] == found[2] and sorted(found[0]) == sorted(found[1])
