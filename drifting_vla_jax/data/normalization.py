"""Actions at the boundary and actions in the network, and the statistics between them.

    boundary  [h, 8]   x y z (m, world), qx qy qz qw (unit, Hamilton, w >= 0), gripper (0 closed .. 1 open)
    network   [h, 10]  x y z (minus the present end effector if relative), first two columns of the rotation matrix
                       (Zhou et al., arXiv 1812.07035: continuous, unlike a quaternion), gripper; each entry centred and
                       divided by its standard deviation over the training set, PER STEP of the chunk: the first step
                       moves millimetres, the last centimetres, and both must count

That is one end effector; two side by side, or joints, are the other layouts (``layouts.py``), [h, k] and [h, a] below.
Entries that never change in the data (a wrist that never turns) have a standard deviation of zero: they are masked out
of the objective and come back as their mean, whatever the network says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.rotation import rotation_6d
from drifting_vla_jax.data.value_range import Ranges
from drifting_vla_jax.types import FRAMES

CONSTANT_BELOW = {"position": 1e-4}  # an entry that varies less counts as constant: metres ...
CONSTANT_ELSE = 1e-3  # ... matrix entries, gripper opening, radians


def quaternion_from_6d(columns: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 4"]:
    """Gram-Schmidt on two columns, then the unit quaternion (x y z w) with w >= 0."""
    flat = columns.reshape(-1, 6).astype(np.float64)
    x = flat[:, :3] / np.maximum(np.linalg.norm(flat[:, :3], axis=-1, keepdims=True), 1e-12)
    y = flat[:, 3:] - np.sum(x * flat[:, 3:], axis=-1, keepdims=True) * x
    y = y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-12)
    matrix = np.stack([x, y, np.cross(x, y)], axis=-1)
    return Rotation.from_matrix(matrix).as_quat(canonical=True).reshape(*columns.shape[:-1], 4)


def to_network(
    actions: Float[np.ndarray, "*n h k"],
    position: Float[np.ndarray, "*#n p"],
    frame: str,
    layout: ActionLayout = END_EFFECTOR,
) -> Float[np.ndarray, "*n h a"]:
    """Boundary actions in network coordinates, not yet normalised.

    ``position`` is where things are now: the end effector, both of them, or the joints.
    """
    parts = []
    for part in layout.parts:
        values = actions[..., part.boundary]
        if part.kind == "rotation":
            values = rotation_6d(values)
        elif part.present:
            values = values - (position[..., None, part.present] if frame == "relative" else 0.0)
        parts.append(values)
    return np.concatenate(parts, axis=-1)


def from_network(
    values: Float[np.ndarray, "*n h a"],
    position: Float[np.ndarray, "*#n p"],
    frame: str,
    layout: ActionLayout = END_EFFECTOR,
) -> Float[np.ndarray, "*n h k"]:
    """Inverse of ``to_network``: unit quaternions with w >= 0, grippers clipped to [0, 1], float32."""
    parts = []
    for part in layout.parts:
        found = values[..., part.network]
        if part.kind == "rotation":
            found = quaternion_from_6d(found)
        elif part.kind == "gripper":
            found = np.clip(found, 0.0, 1.0)
        elif frame == "relative":
            found = found + position[..., None, part.present]
        parts.append(found)
    return np.concatenate(parts, axis=-1).astype(np.float32)


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
class ActionNormalizer:
    """The map between boundary and network for one data set, horizon and frame. Saved in every checkpoint.

    Attributes:
      frame: "relative" or "absolute" positions.
      mean, std: [h, a] of the training chunks; std is 0 where the data never change.
      state_mean, state_std: [s] of proprioception; the first p entries say where things are now, of an end effector its
        position.
      layout: what the numbers of an action are.
        All four have a leading axis n where n rows each have statistics of their own (``ActionSpaces``).
      ranges: the ends of those data; None from checkpoints of before they were kept, and for ``ActionSpaces``' rows.
    """

    frame: str
    mean: Float[np.ndarray, "*n h a"]
    std: Float[np.ndarray, "*n h a"]
    state_mean: Float[np.ndarray, "*n s"]
    state_std: Float[np.ndarray, "*n s"]
    layout: ActionLayout = END_EFFECTOR
    ranges: Ranges | None = None

    @classmethod
    def fit(
        cls,
        state: Float[np.ndarray, "n s"],
        actions: Float[np.ndarray, "n k"],
        ahead: np.ndarray,
        last: np.ndarray,
        horizon: int,
        frame: str,
        layout: ActionLayout = END_EFFECTOR,
    ) -> ActionNormalizer:
        """Statistics of every chunk of a data set given as rows; ``ahead`` and ``last`` as in ``chunk_indices``.

        Raises:
          ValueError: unknown frame, a horizon that no episode is long enough for, or actions of which no entry ever changes.
        """
        if frame not in FRAMES:
            raise ValueError(f"config.action.frame is {frame!r}; expected one of {', '.join(FRAMES)}")
        rows, real = chunk_indices(np.arange(len(state)), ahead, last, horizon)
        if not real.any(0).all():
            raise ValueError(
                f"config.action.horizon is {horizon}, but no episode has more than {int(real.any(0).sum())} targets with "
                "this config.action.stride and keyframes; make it smaller"
            )
        mean, std, low, high = np.zeros((4, horizon, layout.network_dim))
        position = state[:, : layout.present_dim]
        for k in range(horizon):  # one step of the chunk at a time: memory stays that of the data set
            keep = real[:, k]
            values = to_network(actions[rows[keep, k]][:, None], position[keep], frame, layout)[:, 0]
            mean[k], std[k], low[k], high[k] = values.mean(0), values.std(0), values.min(0), values.max(0)
        least = np.concatenate([[CONSTANT_BELOW.get(p.kind, CONSTANT_ELSE)] * p.width for p in layout.parts])
        std[:, np.all(std < least, axis=0)] = 0.0
        if not std.any():
            raise ValueError(
                f"nothing moves: no entry of an action changes in the {len(state)} steps of training, so there is nothing to "
                "learn; was the robot on, and are these the right columns?"
            )
        std = np.where(std > 0, np.maximum(std, least), 0.0)
        state = state.astype(np.float64)  # as JSON gives it back: a resumed run must compute with the same numbers
        ranges = Ranges(np.stack([state.min(0), state.max(0)]), np.stack([low.min(0), high.max(0)]))
        return cls(frame, mean, std, state.mean(0), np.maximum(state.std(0), 1e-3), layout, ranges)

    def of(self, source: Int[np.ndarray, " n"] | None) -> ActionNormalizer:
        """The map of n rows wherever they are from: one data set has one."""
        return self

    @property
    def horizon(self) -> int:
        return self.mean.shape[-2]

    @property
    def active(self) -> Bool[np.ndarray, "*n h a"]:
        """Which entries vary in the data, so count in the objective."""
        return self.std > 0

    def normalise(self, actions: Float[np.ndarray, "*n h k"], position: Float[np.ndarray, "*#n p"]):
        """Boundary actions -> network units, float32 [*n, h, a]."""
        values = to_network(actions, position, self.frame, self.layout) - self.mean
        return np.where(self.active, values / np.where(self.active, self.std, 1.0), 0.0).astype(np.float32)

    def denormalise(self, values: Float[np.ndarray, "*n h a"], position: Float[np.ndarray, "*#n p"]):
        """Network units -> boundary actions, float32 [*n, h, k]."""
        return from_network(np.asarray(values, np.float64) * self.std + self.mean, position, self.frame, self.layout)

    def normalise_state(self, state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n s"]:
        return ((state - self.state_mean) / self.state_std).astype(np.float32)

    def position(self, normalised_state: Float[np.ndarray, "*n s"]) -> Float[np.ndarray, "*n p"]:
        """Where things are now, of an end effector its position (m, world), back from a normalised state."""
        p = self.layout.present_dim
        return normalised_state[..., :p] * self.state_std[:p] + self.state_mean[:p]

    def to_json(self) -> dict:
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "std", "state_mean", "state_std")}
        more = {"ranges": self.ranges.to_json()} if self.ranges else {}
        return {"frame": self.frame, "layout": self.layout.to_json(), **arrays, **more}

    @classmethod
    def from_json(cls, data: dict) -> ActionNormalizer:
        arrays = (np.array(data[name]) for name in ("mean", "std", "state_mean", "state_std"))
        ranges = Ranges.from_json(data["ranges"]) if "ranges" in data else None
        return cls(data["frame"], *arrays, ActionLayout.from_json(data.get("layout")), ranges)


@dataclass(frozen=True)
class ActionSpaces:
    """Those of a mixture's sets, in its order: each row is mapped by the statistics of its own set."""

    sets: tuple[ActionNormalizer, ...]

    @property
    def layout(self) -> ActionLayout:
        return self.sets[0].layout

    def of(self, source: Int[np.ndarray, " n"]) -> ActionNormalizer:
        """The map of n rows that are from these sets."""
        names = ("mean", "std", "state_mean", "state_std")
        each = {name: np.stack([getattr(space, name) for space in self.sets])[source] for name in names}
        return ActionNormalizer(self.sets[0].frame, **each, layout=self.sets[0].layout)
