"""RLBench demonstrations on disk with all that a data set may want: joints, cameras, pictures. See envs/rlbench/demos.py.

    <episode>/<camera>_{rgb,depth,mask}/<t>.png     t = 0 .. T - 1, one per observation, see images.py

Poses are x y z (m, world), qx qy qz qw. Focal lengths are negative, as RLBench writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from drifting_vla_jax.core import rotation as rotations
from drifting_vla_jax.data.sources.rlbench import images as rlbench_images
from drifting_vla_jax.data.sources.rlbench import keyframes
from drifting_vla_jax.envs.rlbench import demos
from drifting_vla_jax.envs.rlbench.demos import DemoError, StoredEpisode, column, named
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS

DAMAGED_MATRIX = 1e-3  # how far gripper_matrix may be from gripper_pose: metres, matrix entries
JOINTS = 7


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
class Demo(StoredEpisode):
    """One demonstration of t time steps; pictures stay on disk until asked for. Further attributes:

    joint_positions, joint_velocities: [t, 7], rad and rad/s.
    ignore_collisions: [t], or None where the data does not say.
    cameras: those whose calibration is there.
    """

    joint_positions: Float[np.ndarray, "t 7"]
    joint_velocities: Float[np.ndarray, "t 7"]
    ignore_collisions: Float[np.ndarray, " t"] | None
    cameras: Mapping[str, Camera]

    @property
    def task(self) -> str:
        return self.folder.parents[2].name

    def rgb(self, camera: str, t: int) -> UInt8[np.ndarray, "height width 3"]:
        return self._picture(camera, "rgb", t, rlbench_images.decode_rgb)

    def depth(self, camera: str, t: int) -> Float[np.ndarray, "height width"]:
        """Metres along the camera's optical axis, float32."""
        if camera not in self.cameras:
            raise DemoError(f"{self.folder} has no calibration of camera {camera}, so no depth in metres")
        near, far = float(self.cameras[camera].near[t]), float(self.cameras[camera].far[t])
        return self._picture(camera, "depth", t, lambda data: rlbench_images.decode_depth(data, near, far))

    def mask(self, camera: str, t: int) -> Int[np.ndarray, "height width"]:
        """CoppeliaSim's handle of the object in each pixel."""
        return self._picture(camera, "mask", t, rlbench_images.decode_mask)

    def keyframes(self) -> list[int]:
        """Time steps, see ``keyframes.py``."""
        return keyframes.discover(self.gripper_open.tolist(), self.joint_velocities)

    def _picture(self, camera: str, kind: str, t: int, decode):
        path = frames(self.folder, camera, kind, len(self))[t]
        return named(path, lambda: decode(path.read_bytes()))


def frames(episode: Path, camera: str, kind: str, steps: int) -> list[Path]:
    """The pictures of an episode's camera, in order of time.

    Raises:
      DemoError: there are none, or not 0 .. steps - 1.
    """
    folder = episode / f"{camera}_{kind}"
    if not folder.is_dir():
        raise DemoError(f"{episode} has no camera {camera} ({folder.name})")
    found = {int(p.stem) for p in folder.glob("*.png") if p.stem.isascii() and p.stem.isdigit()}
    if found != set(range(steps)):
        raise DemoError(f"{folder} has {len(found)} pictures; expected 0.png to {steps - 1}.png, one per observation")
    return [folder / f"{t}.png" for t in range(steps)]


def read_demo(folder: Path) -> Demo:
    """One episode's folder, everything but its pictures.

    Raises:
      DemoError: something is missing, damaged, refused, or contradicts itself; names the file.
    """
    stored, observations = demos.read(folder)
    low = folder / "low_dim_obs.pkl"
    if not stored.descriptions:
        raise DemoError(f"{folder / 'variation_descriptions.pkl'} is missing")
    misc = [observation.get("misc") for observation in observations]
    if not all(isinstance(more, dict) for more in misc):
        raise DemoError(f"{low} has observations of another kind")
    _check_matrix(stored, observations, low)
    ignore = None
    if all(observation.get("ignore_collisions") is not None for observation in observations):
        ignore = column(observations, "ignore_collisions", (1,), low)[:, 0]
    return Demo(
        **vars(stored),
        joint_positions=column(observations, "joint_positions", (JOINTS,), low),
        joint_velocities=column(observations, "joint_velocities", (JOINTS,), low),
        ignore_collisions=ignore,
        cameras={camera: found for camera in CAMERAS if (found := _camera(misc, camera, low))},
    )


def _check_matrix(stored: StoredEpisode, observations: list[dict], source: Path) -> None:
    """RLBench says the pose twice; older versions wrote 12 numbers, which are not looked at."""
    if not all(getattr(o.get("gripper_matrix"), "shape", None) == (4, 4) for o in observations):
        return
    pose, matrix = stored.gripper_pose, column(observations, "gripper_matrix", (4, 4), source)
    away = np.abs(matrix[:, :3, 3] - pose[:, :3]).max(1)
    away = np.maximum(away, np.abs(matrix[:, :3, :3] - rotations.matrix(pose[:, 3:])).max((1, 2)))
    if away.max() > DAMAGED_MATRIX:
        raise DemoError(f"{source}: gripper_pose and gripper_matrix of observation {away.argmax()} are not one pose")


def _camera(misc: list[dict], camera: str, source: Path) -> Camera | None:
    """A camera's calibration from each observation's ``misc``; None where the first has none."""
    prefix = f"{camera}_camera_"
    if f"{prefix}extrinsics" not in misc[0]:
        return None
    shapes = {"extrinsics": (4, 4), "intrinsics": (3, 3), "near": (1,), "far": (1,)}
    values = {name: column(misc, prefix + name, shape, source) for name, shape in shapes.items()}
    return Camera(values["extrinsics"], values["intrinsics"], values["near"][:, 0], values["far"][:, 0])
