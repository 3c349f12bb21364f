"""RLBench demonstrations on disk, read without RLBench, PyRep or CoppeliaSim.

Two trees are known. PerAct's, in which variations are mixed:

    <task>/all_variations/episodes/episode<N>/
        low_dim_obs.pkl                                     T observations, images left out
        variation_number.pkl, variation_descriptions.pkl    an int; the paraphrases
        <camera>_{rgb,depth,mask}/<t>.png                   t = 0 .. T - 1, see rlbench_images.py

and stepjam's, one folder per variation: <task>/variation<K>/variation_descriptions.pkl and
<task>/variation<K>/episodes/episode<N>/ without the other two files. Numbers sort as numbers; other files are ignored.

Poses are x y z (m, world), qx qy qz qw. Focal lengths are negative, as RLBench writes them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation

from drifting_vla_jax.data import keyframes, rlbench_images
from drifting_vla_jax.envs import unpickle

# The 18 tasks of PerAct and what came after it; in the order of the published tables.
TASKS = (
    *("close_jar", "insert_onto_square_peg", "light_bulb_in", "meat_off_grill", "open_drawer", "place_cups"),
    *("place_shape_in_shape_sorter", "place_wine_at_rack_location", "push_buttons", "put_groceries_in_cupboard"),
    *("put_item_in_drawer", "put_money_in_safe", "reach_and_drag", "slide_block_to_color_target", "stack_blocks"),
    *("stack_cups", "sweep_to_dustpan_of_size", "turn_tap"),
)
CAMERAS = ("left_shoulder", "right_shoulder", "overhead", "wrist", "front")
CHECKSUMS = "checksums.json"  # {file name: CRC-32} of an episode's pickles, written by data.download
DAMAGED_UNIT = 1e-3  # how far a quaternion may be from unit length
DAMAGED_MATRIX = 1e-3  # how far gripper_matrix may be from gripper_pose: metres, matrix entries

FIELDS = {  # of every observation: how many numbers
    "gripper_pose": 7,
    "joint_positions": 7,
    "joint_velocities": 7,
    "gripper_open": 1,
}


class DemoError(ValueError):
    """An episode that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Camera:
    """Where a view was taken from at each of t time steps.

    Attributes:
      extrinsics: [t, 4, 4], camera to world.
      intrinsics: [t, 3, 3], pixels; focal lengths are negative.
      near, far: [t], clipping planes (m).
    """

    extrinsics: Float[np.ndarray, "t 4 4"]
    intrinsics: Float[np.ndarray, "t 3 3"]
    near: Float[np.ndarray, " t"]
    far: Float[np.ndarray, " t"]


@dataclass(frozen=True)
class Demo:
    """One demonstration of t time steps; pictures stay on disk until asked for.

    Attributes:
      path: its folder.
      task, variation, descriptions: what was asked, the plainest paraphrase first.
      gripper_pose: [t, 7], float64.
      gripper_open: [t], 1 open, 0 closed: MEASURED from the fingers.
      joint_positions, joint_velocities: [t, 7], rad and rad/s.
      ignore_collisions: [t], or None where the data does not say.
      cameras: those whose calibration is there.
      random_seed: numpy's generator before the scene was made, as ``np.random.set_state`` takes it; None if not kept.
    """

    path: Path
    task: str
    variation: int
    descriptions: tuple[str, ...]
    gripper_pose: Float[np.ndarray, "t 7"]
    gripper_open: Float[np.ndarray, " t"]
    joint_positions: Float[np.ndarray, "t 7"]
    joint_velocities: Float[np.ndarray, "t 7"]
    ignore_collisions: Float[np.ndarray, " t"] | None
    cameras: Mapping[str, Camera]
    random_seed: tuple | None

    def __len__(self) -> int:
        return len(self.gripper_pose)

    def rgb(self, camera: str, t: int) -> UInt8[np.ndarray, "height width 3"]:
        return self._picture(camera, "rgb", t, rlbench_images.decode_rgb)

    def depth(self, camera: str, t: int) -> Float[np.ndarray, "height width"]:
        """Metres along the camera's optical axis, float32."""
        if camera not in self.cameras:
            raise DemoError(f"{self.path} has no calibration of camera {camera}, so no depth in metres")
        near, far = float(self.cameras[camera].near[t]), float(self.cameras[camera].far[t])
        return self._picture(camera, "depth", t, lambda data: rlbench_images.decode_depth(data, near, far))

    def mask(self, camera: str, t: int) -> Int[np.ndarray, "height width"]:
        """CoppeliaSim's handle of the object in each pixel."""
        return self._picture(camera, "mask", t, rlbench_images.decode_mask)

    def keyframes(self) -> list[int]:
        """Time steps, see ``keyframes.py``."""
        return keyframes.discover(self.gripper_open.tolist(), self.joint_velocities)

    def _picture(self, camera: str, kind: str, t: int, decode):
        path = frames(self.path, camera, kind, len(self))[t]
        return named(path, lambda: decode(path.read_bytes()))


def named(path: Path, read):
    """What ``read`` returns; its errors name the file."""
    try:
        return read()
    except (unpickle.PickleError, OSError) as error:  # these name it already
        raise DemoError(str(error)) from error
    except ValueError as error:
        raise DemoError(f"{path}: {error}") from error


def frames(path: Path, camera: str, kind: str, steps: int) -> list[Path]:
    """The pictures of an episode's camera, in order of time.

    Raises:
      DemoError: there are none, or not 0 .. steps - 1.
    """
    folder = path / f"{camera}_{kind}"
    if not folder.is_dir():
        raise DemoError(f"{path} has no camera {camera} ({folder.name})")
    found = {int(p.stem) for p in folder.glob("*.png") if p.stem.isascii() and p.stem.isdigit()}
    if found != set(range(steps)):
        raise DemoError(f"{folder} has {len(found)} pictures; expected 0.png to {steps - 1}.png, one per observation")
    return [folder / f"{t}.png" for t in range(steps)]


def find_episodes(root: Path, task: str) -> list[Path]:
    """Folders of a task's episodes under ``root``: by number, and of one number by variation.

    Raises:
      DemoError: there are none.
    """
    folders = [root / task / "all_variations"]
    if not folders[0].is_dir():
        folders = [folder for folder in (root / task).glob("variation*") if _number(folder, "variation") is not None]
    found = [p for f in folders for p in (f / "episodes").glob("episode*") if _number(p, "episode") is not None]
    if not found:
        raise DemoError(
            f"no episodes of {task} in {root}; expected {root / task / 'all_variations' / 'episodes' / 'episode0'} or "
            f"{root / task / 'variation0' / 'episodes' / 'episode0'}"
        )
    return sorted(found, key=lambda p: (_number(p, "episode"), _number(p.parents[1], "variation") or 0))


def _number(path: Path, prefix: str) -> int | None:
    """N of a folder called prefix + N; None of anything else (.DS_Store, episode0_backup)."""
    match = re.fullmatch(rf"{prefix}([0-9]+)", path.name)
    return int(match.group(1)) if match and path.is_dir() else None


def read_demo(path: Path) -> Demo:
    """One episode's folder, everything but its pictures.

    Raises:
      DemoError: something is missing, damaged, refused, or contradicts itself; names the file.
    """
    sums = _checksums(path)
    low = path / "low_dim_obs.pkl"
    demo = _load(low, sums)
    records = getattr(demo, "_observations", None)
    if not isinstance(records, list) or len(records) < 2:
        raise DemoError(f"{low} has no list of at least two observations")
    if not all(isinstance(o, unpickle.Record) and isinstance(getattr(o, "misc", None), dict) for o in records):
        raise DemoError(f"{low} has observations of another kind")
    observations = [vars(o) for o in records]
    columns = {name: _column(observations, name, (size,), low) for name, size in FIELDS.items()}
    _check(columns, observations, low)
    ignore = None
    if all(o.get("ignore_collisions") is not None for o in observations):
        ignore = _column(observations, "ignore_collisions", (1,), low)[:, 0]
    episodic = (path / "variation_number.pkl").is_file()
    mixed = path.parents[1].name == "all_variations"
    variation = (
        _load(path / "variation_number.pkl", sums) if mixed or episodic else _number(path.parents[1], "variation")
    )
    if type(variation) is not int or not 0 <= variation < 10_000:
        raise DemoError(f"{path / 'variation_number.pkl'}: {variation!r:.40} is no variation's number")
    misc, seed = [o["misc"] for o in observations], getattr(demo, "random_seed", None)
    return Demo(
        path=path,
        task=path.parents[2].name,
        variation=variation,
        descriptions=_descriptions(path, sums),
        gripper_pose=columns["gripper_pose"],
        gripper_open=columns["gripper_open"][:, 0],
        joint_positions=columns["joint_positions"],
        joint_velocities=columns["joint_velocities"],
        ignore_collisions=ignore,
        cameras={camera: found for camera in CAMERAS if (found := _camera(misc, camera, low))},
        random_seed=seed if isinstance(seed, tuple) else None,
    )


def _checksums(path: Path) -> dict[str, int]:
    if not (path / CHECKSUMS).is_file():
        return {}
    sums = named(path / CHECKSUMS, lambda: json.loads((path / CHECKSUMS).read_text()))
    if not isinstance(sums, dict):
        raise DemoError(f"{path / CHECKSUMS} is damaged; fetch the episode again")
    return sums


def _load(path: Path, sums: Mapping[str, int]):
    """A pickle's value; with a checksum it must be exactly what was downloaded."""
    if not path.is_file():
        raise DemoError(f"{path} is missing")
    if path.name in sums and zlib.crc32(path.read_bytes()) != sums[path.name]:
        raise DemoError(f"{path} is damaged: its checksum differs from the archive's; fetch it again")
    return named(path, lambda: unpickle.load(path))


def _descriptions(path: Path, sums: Mapping[str, int]) -> tuple[str, ...]:
    own, shared = (folder / "variation_descriptions.pkl" for folder in (path, path.parents[1]))
    where = own if own.is_file() or path.parents[1].name == "all_variations" else shared
    texts = _load(where, sums)
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise DemoError(f"{where} holds no list of instructions")
    return tuple(texts)


def _column(observations: list[dict], name: str, shape: tuple[int, ...], source: Path) -> np.ndarray:
    """One field of all observations, float64 [t, *shape]."""
    rows = []
    for t, observation in enumerate(observations):
        value = observation.get(name)
        row = np.asarray(value if isinstance(value, (np.ndarray, float, int)) else np.nan)
        if row.dtype.kind not in "fiub" or row.size != np.prod(shape) or not np.all(np.isfinite(row)):
            raise DemoError(f"{source}: {name} of observation {t} is not {np.prod(shape)} finite numbers")
        rows.append(row.astype(np.float64).reshape(shape))
    return np.stack(rows)


def _check(columns: Mapping[str, np.ndarray], observations: list[dict], source: Path) -> None:
    """What must hold of any robot's demonstration."""
    pose, opening = columns["gripper_pose"], columns["gripper_open"]
    off = np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1)
    if off.max() > DAMAGED_UNIT:
        raise DemoError(f"{source}: the quaternion of observation {off.argmax()} is {off.max():.3g} off unit length")
    if not np.all((opening >= 0) & (opening <= 1)):
        raise DemoError(f"{source}: gripper_open is outside 0 .. 1")
    if all(
        getattr(o.get("gripper_matrix"), "shape", None) == (4, 4) for o in observations
    ):  # older RLBench: 12 numbers
        matrix = _column(observations, "gripper_matrix", (4, 4), source)
        away = np.abs(matrix[:, :3, 3] - pose[:, :3]).max(1)
        away = np.maximum(away, np.abs(matrix[:, :3, :3] - Rotation.from_quat(pose[:, 3:]).as_matrix()).max((1, 2)))
        if away.max() > DAMAGED_MATRIX:
            raise DemoError(
                f"{source}: gripper_pose and gripper_matrix of observation {away.argmax()} are not one pose"
            )


def _camera(misc: list[dict], camera: str, source: Path) -> Camera | None:
    """A camera's calibration from each observation's ``misc``; None where the first has none."""
    prefix = f"{camera}_camera_"
    if f"{prefix}extrinsics" not in misc[0]:
        return None
    shapes = {"extrinsics": (4, 4), "intrinsics": (3, 3), "near": (1,), "far": (1,)}
    values = {name: _column(misc, prefix + name, shape, source) for name, shape in shapes.items()}
    return Camera(values["extrinsics"], values["intrinsics"], values["near"][:, 0], values["far"][:, 0])
