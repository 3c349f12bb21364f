"""RLBench's episodes read without RLBench: every value it reads itself, both trees, and no damage unseen."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.data import archive
from drifting_vla_jax.data.sources.rlbench import episodes as peract
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
from drifting_vla_jax.data.sources.rlbench.source import to_episode
from drifting_vla_jax.envs.rlbench.demos import CHECKSUMS, DemoError, folders
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS
from tests.peract_fixture import expected, make_zip

EPISODE = "train/open_drawer/all_variations/episodes/episode1"


@pytest.fixture
def damaged(demos, tmp_path):
    """A copy of one episode, to be damaged."""
    return Path(shutil.copytree(demos / EPISODE, tmp_path / EPISODE))


@pytest.mark.parametrize("name", sorted(expected()))
def test_every_field_is_what_rlbench_reads(name, demos):
    want, demo = expected()[name], read_demo(demos / name)
    assert (len(demo), demo.variation, demo.task) == (want["num_steps"], want["variation_number"], name.split("/")[1])
    assert list(demo.descriptions) == want["descriptions"]
    assert demo.gripper_pose[[0, -1]].tolist() == [want["gripper_pose_first"], want["gripper_pose_last"]]
    assert demo.joint_positions[[0, -1]].tolist() == [want["joint_positions_first"], want["joint_positions_last"]]
    assert demo.gripper_open.tolist() == want["gripper_open"]
    assert demo.ignore_collisions.tolist() == want["ignore_collisions"]
    front = demo.rgb("front", 0)
    assert hashlib.sha256(front.tobytes()).hexdigest() == want["front_rgb_sha256_first"]
    assert front.mean() == pytest.approx(want["front_rgb_mean_first"], abs=1e-6)
    assert demo.depth("front", 0)[32, 32] == pytest.approx(want["front_depth_m_center_first"], abs=1e-5)
    np.testing.assert_array_equal(demo.cameras["front"].intrinsics[0], want["front_intrinsics"])


def test_the_scenes_seed_is_kept(demos):
    """What reset_to_demo gives to numpy."""
    generator = np.random.RandomState()
    generator.set_state(read_demo(demos / EPISODE).random_state)
    assert 0 <= generator.rand() < 1


def test_calibration_puts_the_table_where_it_is(demos):
    """Pixels through intrinsics, depth and extrinsics: the table of every RLBench scene is at z = 0.752 m."""
    demo = read_demo(demos / EPISODE)
    assert set(demo.cameras) == set(CAMERAS)
    camera, depth = demo.cameras["front"], demo.depth("front", 0).astype(np.float64)
    rows, columns = np.indices(depth.shape)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(camera.intrinsics[0]).T
    points = (rays * depth[..., None]) @ camera.extrinsics[0, :3, :3].T + camera.extrinsics[0, :3, 3]
    z = points[..., 2]
    assert np.sum(np.abs(z - 0.752) < 1e-3) > 300 and camera.extrinsics.shape == (12, 4, 4)
    assert set(np.unique(demo.mask("front", 0))) <= set(range(200)) and demo.mask("front", 0).max() > 0


def test_neither_rlbench_nor_pyrep_is_imported(demos):
    code = f"""
import sys
class Blocked:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in ("rlbench", "pyrep"):
            raise SystemExit("asked for " + name)
sys.meta_path.insert(0, Blocked)
from pathlib import Path
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
assert len(read_demo(Path({str(demos / EPISODE)!r}))) == 12
"""
    env = {**os.environ, "PYTHONPATH": str(Path(peract.__file__).parents[4])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_stepjams_tree(demos, tmp_path):
    """One folder per variation: its number is the folder's, its paraphrases are shared."""
    for variation, number in ((10, 0), (2, 0), (2, 1)):
        folder = tmp_path / "open_drawer" / f"variation{variation}"
        episode = Path(shutil.copytree(demos / EPISODE, folder / "episodes" / f"episode{number}"))
        (episode / "variation_number.pkl").unlink()
        (episode / "variation_descriptions.pkl").replace(folder / "variation_descriptions.pkl")
    read = [read_demo(path) for path in folders(tmp_path, "open_drawer").values()]
    assert [(d.variation, d.folder.name) for d in read] == [(2, "episode0"), (10, "episode0"), (2, "episode1")]
    assert read[1].descriptions == read_demo(demos / EPISODE).descriptions and read[1].task == "open_drawer"


def rewrite(path: Path, data: bytes):
    path.write_bytes(data)


DAMAGES = {
    "a cut picture": (
        lambda e: rewrite(e / "front_rgb/5.png", (e / "front_rgb/5.png").read_bytes()[:500]),
        r"front_rgb/5\.png: a PNG .* is cut",
    ),
    "no camera": (lambda e: shutil.rmtree(e / "wrist_rgb"), r"episode1 has no camera wrist \(wrist_rgb\)"),
    "a picture too few": (
        lambda e: (e / "front_rgb/11.png").unlink(),
        r"front_rgb has 11 pictures; expected 0\.png to 11\.png, one per observation",
    ),
    "a picture too many": (lambda e: shutil.copy(e / "front_rgb/1.png", e / "front_rgb/12.png"), "has 13 pictures"),
    "a short pickle": (
        lambda e: rewrite(e / "low_dim_obs.pkl", (e / "low_dim_obs.pkl").read_bytes()[:9000]),
        r"low_dim_obs\.pkl is damaged",
    ),
    "no pickle": (lambda e: (e / "low_dim_obs.pkl").unlink(), r"low_dim_obs\.pkl is missing"),
    "no variation": (lambda e: (e / "variation_number.pkl").unlink(), r"variation_number\.pkl is missing"),
    "a wrong variation": (
        lambda e: rewrite(e / "variation_number.pkl", pickle.dumps("four")),
        r"variation_number\.pkl holds 'four'; expected a whole number",
    ),
    "no instructions": (
        lambda e: rewrite(e / "variation_descriptions.pkl", pickle.dumps([])),
        "holds no list of instructions",
    ),
    "an instruction that is no text": (
        lambda e: rewrite(e / "variation_descriptions.pkl", pickle.dumps(["open", "open\x00"])),
        r"variation_descriptions\.pkl: an instruction has the control character U\+0000 at character 4",
    ),
    "another pickle": (lambda e: rewrite(e / "low_dim_obs.pkl", pickle.dumps({"a": 1})), "has no list of at least two"),
    "a payload": (
        lambda e: rewrite(e / "low_dim_obs.pkl", b"cposix\nsystem\n(S'touch trap'\ntR."),
        r"low_dim_obs\.pkl is refused: it asks for posix\.system",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_episode_is_named(damage, damaged):
    change, said = DAMAGES[damage]
    change(damaged)
    with pytest.raises(DemoError, match=said) as caught:
        to_episode(read_demo(damaged), CAMERAS, 0)
    assert "episode1" in str(caught.value)


def corrupt(data: bytes, rng: np.random.Generator) -> bytes:
    """One random accident of a disk or a line."""
    kind, a = rng.integers(8), int(rng.integers(len(data)))
    b = min(len(data), a + int(rng.integers(1, 40)))
    noise = rng.bytes(b - a)
    flipped = bytes([data[a] ^ (1 << int(rng.integers(8)))])
    return (
        data[:a] + flipped + data[a + 1 :],
        data[:a] + noise + data[b:],
        data[:a],
        data[:a] + bytes(b - a) + data[b:],
        data[:a] + noise + data[a:],
        data[:a] + data[b:],
        data[:b] + data[a:b] + data[b:],
        data[:a] + rng.bytes(1) + data[a + 1 :],
    )[kind]


@pytest.fixture
def watched():
    """Events of the interpreter that running something would cause, while ``watched["on"]``."""
    seen = {"on": False, "events": []}
    bad = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec", "compile", "ctypes.dlopen")

    def hook(event, _):
        if seen["on"] and event in (*bad, "import", "socket.connect", "os.remove", "shutil.rmtree"):
            seen["events"].append(event)

    sys.addaudithook(hook)  # stays for the life of the process; switched off it costs nothing
    yield seen
    seen["on"] = False


def digest(episode) -> str:
    arrays = (episode.state.tobytes(), episode.actions.tobytes(), episode.images)
    return hashlib.sha256(repr((episode.task, episode.variation, episode.instructions, *arrays)).encode()).hexdigest()


@pytest.mark.slow
def test_500_corrupted_files_of_a_downloaded_episode(demos, tmp_path, watched):
    """As data.download unpacks them, with the archive's checksums: named, or the content is the same to the last bit."""
    path = make_zip(demos / "train/open_drawer", tmp_path / "open_drawer.zip")
    archive.unpack(path, tmp_path / "train/open_drawer", 1)
    (episode,) = folders(tmp_path / "train", "open_drawer").values()
    pickles = [p for p in sorted(episode.iterdir()) if p.is_file()]
    pictures = sorted(p for c in CAMERAS for p in (episode / f"{c}_rgb").iterdir())
    assert len(pickles) == 4 and len(pictures) == 60
    original, rng = digest(to_episode(read_demo(episode), CAMERAS, 0)), np.random.default_rng(0)
    outcomes = {"named": 0, "unchanged": 0}
    for number in range(500):
        file = (pickles, pictures)[number % 2][rng.integers((4, 60)[number % 2])]
        data = file.read_bytes()
        changed = corrupt(data, rng)
        if changed == data:
            changed = data[:-1]
        file.write_bytes(changed)
        watched["on"] = True
        try:
            outcome = "unchanged" if digest(to_episode(read_demo(episode), CAMERAS, 0)) == original else "silent"
        except DemoError as error:
            assert str(episode) in str(error)
            outcome = "named"
        watched["on"] = False
        file.write_bytes(data)
        assert outcome != "silent", f"corruption {number} of {file.name} went unseen"
        outcomes[outcome] += 1
    assert not watched["events"] and outcomes["named"] > 450, outcomes


@pytest.mark.slow
def test_500_corrupted_pickles_without_checksums(demos, tmp_path, watched):
    """As other tools leave them: one error or a whole demonstration of finite numbers, nothing else, nothing run."""
    episode = Path(shutil.copytree(demos / EPISODE, tmp_path / EPISODE))
    file, rng = episode / "low_dim_obs.pkl", np.random.default_rng(1)
    data, named = file.read_bytes(), 0
    for _ in range(500):
        file.write_bytes(corrupt(data, rng))
        watched["on"] = True
        try:
            demo = read_demo(episode)
            assert len(demo) == 12 and np.isfinite(demo.gripper_pose).all()
        except DemoError as error:
            assert str(file) in str(error)
            named += 1
        watched["on"] = False
    assert not watched["events"] and named > 300, named


def test_a_pose_that_contradicts_its_matrix_is_named(damaged):
    """10 cm of difference in one number; the pickle itself is in order."""
    file = damaged / "low_dim_obs.pkl"
    data = file.read_bytes()
    numbers = {t: np.float64(pose[0]).tobytes() for t, pose in enumerate(read_demo(damaged).gripper_pose)}
    t = next(t for t, number in numbers.items() if data.count(number) == 2)  # x, in the pose and in the matrix alone
    moved = np.float64(np.frombuffer(numbers[t])[0] + 0.1).tobytes()
    file.write_bytes(data.replace(numbers[t], moved, 1))
    with pytest.raises(DemoError, match=f"gripper_pose and gripper_matrix of observation {t} are not one pose"):
        read_demo(damaged)


def test_checksums_are_those_of_the_archive(demos, tmp_path):
    path = make_zip(demos / "train/close_jar", tmp_path / "a.zip")
    archive.unpack(path, tmp_path / "close_jar", 1)
    episode = tmp_path / "close_jar/all_variations/episodes/episode0"
    sums = json.loads((episode / CHECKSUMS).read_text())
    assert set(sums) == set(archive.NEEDED)
    data = (episode / "low_dim_obs.pkl").read_bytes()
    x = read_demo(episode).gripper_pose[3, 0]
    at = data.index(np.float64(x).tobytes())
    (episode / "low_dim_obs.pkl").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])  # the last bit of x
    with pytest.raises(DemoError, match=r"low_dim_obs\.pkl is damaged: its checksum differs from the archive's"):
        read_demo(episode)
