"""Actions at the boundary and actions in the network, and the statistics between them.

    boundary  [h, 8]   x y z (m, world), qx qy qz qw (unit, Hamilton, w >= 0), gripper (0 closed .. 1 open)
    network   [h, 10]  x y z (minus the present end effector if relative), first two columns of the rotation matrix
                       (Zhou et al., arXiv 1812.07035: continuous, unlike a quaternion), gripper; each entry centred and
                       divided by its standard deviation over the training set, PER STEP of the chunk: the first step
                       moves millimetres, the last centimetres, and both must count

Entries that never change in the data (a wrist that never turns) have a standard deviation of zero: they are masked out
of the objective and come back as their mean, whatever the network says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from drifting_vla_jax.envs.rotations import rotation_6d
from drifting_vla_jax.types import FRAMES, NETWORK_ACTION_DIM

# Below these an entry counts as constant: metres, matrix entries, gripper opening.
CONSTANT_BELOW = np.array([1e-4] * 3 + [1e-3] * 6 + [1e-3])


def quaternion_from_6d(columns: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 4"]:
    """Gram-Schmidt on two columns, then the unit quaternion (x y z w) with w >= 0."""
    flat = columns.reshape(-1, 6).astype(np.float64)
    x = flat[:, :3] / np.maximum(np.linalg.norm(flat[:, :3], axis=-1, keepdims=True), 1e-12)
    y = flat[:, 3:] - np.sum(x * flat[:, 3:], axis=-1, keepdims=True) * x
    y = y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-12)
    matrix = np.stack([x, y, np.cross(x, y)], axis=-1)
    return Rotation.from_matrix(matrix).as_quat(canonical=True).reshape(*columns.shape[:-1], 4)


def to_network(
    actions: Float[np.ndarray, "*n h 8"], position: Float[np.ndarray, "*#n 3"], frame: str
) -> Float[np.ndarray, "*n h 10"]:
    """Boundary actions in network coordinates, not yet normalised; ``position`` is the present end effector."""
    xyz = actions[..., :3] - (position[..., None, :] if frame == "relative" else 0.0)
    return np.concatenate([xyz, rotation_6d(actions[..., 3:7]), actions[..., 7:]], axis=-1)


def from_network(
    values: Float[np.ndarray, "*n h 10"], position: Float[np.ndarray, "*#n 3"], frame: str
) -> Float[np.ndarray, "*n h 8"]:
    """Inverse of ``to_network``: unit quaternions with w >= 0, gripper clipped to [0, 1], float32."""
    xyz = values[..., :3] + (position[..., None, :] if frame == "relative" else 0.0)
    gripper = np.clip(values[..., 9:], 0.0, 1.0)
    return np.concatenate([xyz, quaternion_from_6d(values[..., 3:9]), gripper], axis=-1).astype(np.float32)


def chunk_indices(
    start: Int[np.ndarray, " n"], ahead: np.ndarray, last: np.ndarray, horizon: int
) -> tuple[Int[np.ndarray, "n h"], Bool[np.ndarray, "n h"]]:
    """Rows of the actions in the chunks that start at rows ``start``, and which of them are not padding.

    Args:
      ahead: for every row of the data set, the row whose action a chunk starts with there: the row itself where every
        time step is a target, a later one with a stride or between keyframes. Each further entry is what ``ahead`` says
        of the row after the one before.
      last: for every row, the row on which its episode ends. Entries past it repeat it and are masked.
    """
    end = last[start]
    rows, real = [ahead[start]], [np.ones(len(start), bool)]
    for _ in range(horizon - 1):
        real.append(rows[-1] < end)
        rows.append(ahead[np.minimum(rows[-1] + 1, end)])
    return np.stack(rows, axis=1), np.stack(real, axis=1)


@dataclass(frozen=True)
class ActionSpace:
    """The map between boundary and network for one data set, horizon and frame. Saved in every checkpoint.

    Attributes:
      frame: "relative" or "absolute" positions.
      mean, std: [h, 10] of the training chunks; std is 0 where the data never change.
      state_mean, state_std: [s] of proprioception; the first three entries are the end effector's position.
        All four have a leading axis n where n rows each have statistics of their own (``ActionSpaces``).
    """

    frame: str
    mean: Float[np.ndarray, "*n h 10"]
    std: Float[np.ndarray, "*n h 10"]
    state_mean: Float[np.ndarray, "*n s"]
    state_std: Float[np.ndarray, "*n s"]

    @classmethod
    def fit(
        cls,
        state: Float[np.ndarray, "n s"],
        actions: Float[np.ndarray, "n 8"],
        ahead: np.ndarray,
        last: np.ndarray,
        horizon: int,
        frame: str,
    ) -> ActionSpace:
        """Statistics of every chunk of a data set given as rows; ``ahead`` and ``last`` as in ``chunk_indices``.

        Raises:
          ValueError: unknown frame, or a horizon that no episode is long enough for.
        """
        if frame not in FRAMES:
            raise ValueError(f"config.action.frame is {frame!r}; expected one of {', '.join(FRAMES)}")
        rows, real = chunk_indices(np.arange(len(state)), ahead, last, horizon)
        if not real.any(0).all():
            raise ValueError(
                f"config.action.horizon is {horizon}, but no episode has more than {int(real.any(0).sum())} targets with "
                "this config.action.stride and keyframes; make it smaller"
            )
        mean, std = np.zeros((2, horizon, NETWORK_ACTION_DIM))
        for k in range(horizon):  # one step of the chunk at a time: memory stays that of the data set
            keep = real[:, k]
            values = to_network(actions[rows[keep, k]][:, None], state[keep, :3], frame)[:, 0]
            mean[k], std[k] = values.mean(0), values.std(0)
        std[:, np.all(std < CONSTANT_BELOW, axis=0)] = 0.0
        std = np.where(std > 0, np.maximum(std, CONSTANT_BELOW), 0.0)
        state = state.astype(np.float64)  # as JSON gives it back: a resumed run must compute with the same numbers
        return cls(frame, mean, std, state.mean(0), np.maximum(state.std(0), 1e-3))

    def of(self, source: Int[np.ndarray, " n"] | None) -> ActionSpace:
        """The map of n rows wherever they are from: one data set has one."""
        return self

    @property
    def horizon(self) -> int:
        return self.mean.shape[-2]

    @property
    def active(self) -> Bool[np.ndarray, "*n h 10"]:
        """Which entries vary in the data, so count in the objective."""
        return self.std > 0

    def normalise(self, actions: Float[np.ndarray, "*n h 8"], position: Float[np.ndarray, "*#n 3"]):
        """Boundary actions -> network units, float32 [*n, h, 10]."""
        values = to_network(actions, position, self.frame) - self.mean
        return np.where(self.active, values / np.where(self.active, self.std, 1.0), 0.0).astype(np.float32)

    def denormalise(self, values: Float[np.ndarray, "*n h 10"], position: Float[np.ndarray, "*#n 3"]):
        """Network units -> boundary actions, float32 [*n, h, 8]."""
        return from_network(np.asarray(values, np.float64) * self.std + self.mean, position, self.frame)

    def normalise_state(self, state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n s"]:
        return ((state - self.state_mean) / self.state_std).astype(np.float32)

    def position(self, normalised_state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n 3"]:
        """The end effector's position (m, world) back from a normalised state."""
        return normalised_state[..., :3] * self.state_std[:3] + self.state_mean[:3]

    def to_json(self) -> dict:
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "std", "state_mean", "state_std")}
        return {"frame": self.frame, **arrays}

    @classmethod
    def from_json(cls, data: dict) -> ActionSpace:
        return cls(data["frame"], *(np.array(data[name]) for name in ("mean", "std", "state_mean", "state_std")))


@dataclass(frozen=True)
class ActionSpaces:
    """Those of a mixture's sets, in its order: each row is mapped by the statistics of its own set."""

    sets: tuple[ActionSpace, ...]

    def of(self, source: Int[np.ndarray, " n"]) -> ActionSpace:
        """The map of n rows that are from these sets."""
        names = ("mean", "std", "state_mean", "state_std")
        each = {name: np.stack([getattr(space, name) for space in self.sets])[source] for name in names}
        return ActionSpace(self.sets[0].frame, **each)


def rotation_error_degrees(a: Float[np.ndarray, "*#n 4"], b: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "..."]:
    """Angle between two orientations; the same for q and -q."""
    dot = np.clip(np.abs(np.sum(a * b, axis=-1)), 0.0, 1.0)
    return np.degrees(2 * np.arccos(dot))
