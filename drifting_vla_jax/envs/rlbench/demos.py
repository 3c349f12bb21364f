"""Stored RLBench episodes without their images, read without RLBench: what a simulator and a data set both need of them.

    ROOT/<task>/all_variations/episodes/episode<N>/     PerAct's tree, in which variations are mixed
        low_dim_obs.pkl                                 t observations, images left out
        variation_number.pkl, variation_descriptions.pkl   an int; the paraphrases
        checksums.json                                  {file name: CRC-32} of these, if data.download left one
    ROOT/<task>/variation<K>/episodes/episode<N>/       stepjam's tree: low_dim_obs.pkl
    ROOT/<task>/variation<K>/variation_descriptions.pkl

ROOT is a split, e.g. data/rlbench/test. Numbers sort as numbers; other files are ignored. The scene is that of the random
state numpy had before it was laid out. Nothing of a file is run (see safe_pickle.py).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drifting_vla_jax.core.end_effector import make_action
from drifting_vla_jax.core.text import instruction_problem
from drifting_vla_jax.envs.rlbench import safe_pickle

CHECKSUMS = "checksums.json"
DAMAGED_UNIT = 1e-3  # how far a quaternion may be from unit length
MOST_VARIATIONS = 10_000


class DemoError(ValueError):
    """An episode that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class StoredEpisode:
    """One recorded demonstration of t observations at 20 Hz.

    Attributes:
      folder: where it lies.
      variation: which of the task's.
      descriptions: its instruction in several wordings, the plainest first; empty where none are stored.
      random_state: what numpy.random.set_state takes; the scene follows from it on the RLBench that recorded it. None: not
        recorded.
      reset_attempts: how often stepjam's RLBench laid out the scene until it was valid; None: not recorded.
      gripper_pose: float64 [t, 7], x y z (metres, world), qx qy qz qw of the tip.
      gripper_open: float64 [t], 1 open or 0 closed, as measured.
    """

    folder: Path
    variation: int
    descriptions: tuple[str, ...]
    random_state: tuple | None
    reset_attempts: int | None
    gripper_pose: np.ndarray
    gripper_open: np.ndarray

    def __len__(self) -> int:
        return len(self.gripper_pose)

    def actions(self) -> np.ndarray:
        """The recording as targets, float32 [t - 1, 8]: the pose and opening one observation later.

        RLBench records nothing while fingers open or close, so the gripper measured one observation later is the command
        of that step; likewise the gripper at a keyframe is what to do once there.
        """
        return make_action(self.gripper_pose[1:], self.gripper_open[1:])


def folders(root: Path, task: str) -> dict[int, Path]:
    """Every stored episode of a task by its number, ascending.

    In PerAct's tree the number is the folder's. In stepjam's it is the place among all: first every variation's first.

    Raises:
      DemoError: there are none; the message says what was looked for.
    """
    base = Path(root) / task
    mixed = base / "all_variations"
    trees = [mixed] if mixed.is_dir() else [tree for _, tree in _numbered(base, "variation")]
    found = [(n, i, path) for i, tree in enumerate(trees) for n, path in _numbered(tree / "episodes", "episode")]
    if not found:
        raise DemoError(
            f"no stored episodes of {task} under {root}; expected {task}/all_variations/episodes/episode0 or "
            f"{task}/variation0/episodes/episode0 there (a split of python -m drifting_vla_jax.data.download)"
        )
    if trees == [mixed]:
        return {number: path for number, _, path in found}
    return dict(enumerate(path for *_, path in sorted(found)))


def _numbered(parent: Path, prefix: str) -> list[tuple[int, Path]]:
    """Sub-folders called prefix + N by N, 2 before 10; nothing else (.DS_Store, episode0_backup)."""
    children = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    matches = [(re.fullmatch(rf"{prefix}([0-9]+)", path.name), path) for path in children]
    return sorted((int(match[1]), path) for match, path in matches if match)


def folder(root: Path, task: str, number: int) -> Path:
    """Where a stored episode lies; DemoError if there is none of this number."""
    known = folders(root, task)
    if number not in known:
        numbers = f"{min(known)} .. {max(known)}"
        raise DemoError(f"no stored episode {number} of {task} under {root}; it has {len(known)}, numbered {numbers}")
    return known[number]


def variation(root: Path, task: str, number: int) -> int:
    """The variation of a stored episode; cheap."""
    return _variation(folder(root, task, number))


def load(root: Path, task: str, number: int) -> StoredEpisode:
    """A stored episode that a simulator can start from.

    Raises:
      DemoError: no such episode, see ``read``, or no random state to restore.
    """
    stored, _ = read(folder(root, task, number))
    if stored.random_state is None:
        raise DemoError(
            f"{stored.folder / 'low_dim_obs.pkl'} has no random state to restore; expected that of an MT19937"
        )
    return stored


def read(folder: Path) -> tuple[StoredEpisode, list[dict[str, Any]]]:
    """An episode, and the fields of each of its observations, of which ``column`` makes arrays.

    Raises:
      DemoError: something is missing, damaged, refused, or no demonstration; names the file.
    """
    low = folder / "low_dim_obs.pkl"
    demo = load_pickle(low)
    records = getattr(demo, "_observations", None)
    if not isinstance(records, list) or len(records) < 2:
        raise DemoError(f"{low} has no list of at least two observations")
    if not all(isinstance(record, safe_pickle.InertObject) for record in records):
        raise DemoError(f"{low} has observations of another kind")
    observations, attempts = [vars(record) for record in records], getattr(demo, "num_reset_attempts", None)
    pose = column(observations, "gripper_pose", (7,), low)
    opening = column(observations, "gripper_open", (1,), low)[:, 0]
    off = np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1)
    if off.max() > DAMAGED_UNIT:
        raise DemoError(f"{low}: the quaternion of observation {off.argmax()} is {off.max():.3g} off unit length")
    if not np.all((opening >= 0) & (opening <= 1)):
        raise DemoError(f"{low}: gripper_open is outside 0 .. 1")
    stored = StoredEpisode(
        folder=folder,
        variation=_variation(folder),
        descriptions=_descriptions(folder),
        random_state=_random_state(getattr(demo, "random_seed", None)),
        reset_attempts=attempts if isinstance(attempts, int) else None,
        gripper_pose=pose,
        gripper_open=opening,
    )
    return stored, observations


def load_pickle(path: Path) -> Any:
    """A pickle's value; where there are checksums, it must be exactly what was downloaded."""
    if not path.is_file():
        raise DemoError(f"{path} is missing")
    sums, listed = {}, path.parent / CHECKSUMS
    if listed.is_file():
        sums = named(listed, lambda: json.loads(listed.read_text()))
        if not isinstance(sums, dict):
            raise DemoError(f"{listed} is damaged; fetch the episode again")
    if path.name in sums and zlib.crc32(path.read_bytes()) != sums[path.name]:
        raise DemoError(f"{path} is damaged: its checksum differs from the archive's; fetch it again")
    return named(path, lambda: safe_pickle.load(path))


def named(path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; its errors name the file."""
    try:
        return read()
    except (safe_pickle.PickleError, OSError) as error:  # these name it already
        raise DemoError(str(error)) from error
    except ValueError as error:
        raise DemoError(f"{path}: {error}") from error


def column(rows: Sequence[Mapping[str, Any]], name: str, shape: tuple[int, ...], source: Path) -> np.ndarray:
    """One field of all observations, float64 [t, *shape]; DemoError, naming ``source``, if it is not that anywhere."""
    values = []
    for t, row in enumerate(rows):
        value = row.get(name)
        value = np.asarray(value if isinstance(value, (np.ndarray, float, int)) else np.nan)
        if value.dtype.kind not in "fiub" or value.size != np.prod(shape) or not np.all(np.isfinite(value)):
            raise DemoError(f"{source}: {name} of observation {t} is not {np.prod(shape)} finite numbers")
        values.append(value.astype(np.float64).reshape(shape))
    return np.stack(values)


def _variation(folder: Path) -> int:
    of_folder = re.fullmatch(r"variation([0-9]+)", folder.parents[1].name)
    if of_folder:
        return int(of_folder[1])
    written = folder / "variation_number.pkl"
    value = load_pickle(written)
    number = np.asarray(value if isinstance(value, (int, np.ndarray)) else np.nan)
    if number.shape != () or number.dtype.kind not in "ui" or not 0 <= number < MOST_VARIATIONS:
        raise DemoError(f"{written} holds {value!r:.40}; expected a whole number, 0 or more")
    return int(number)


def _descriptions(folder: Path) -> tuple[str, ...]:
    written = folder / "variation_descriptions.pkl"
    if not written.is_file():
        written = folder.parents[1] / "variation_descriptions.pkl"  # stepjam's place
    if not written.is_file():
        return ()
    texts = load_pickle(written)
    if not isinstance(texts, (list, tuple)) or not texts:
        raise DemoError(f"{written} holds no list of instructions")
    for text in texts:
        if wrong := instruction_problem(text):
            raise DemoError(f"{written}: an instruction {wrong}")
    return tuple(texts)


def _random_state(state: Any) -> tuple | None:
    """Checked, so that numpy is handed nothing but a Mersenne twister's state; None if it is no such state."""
    parts = tuple(state) if isinstance(state, (tuple, list)) else ()
    if [type(part) for part in parts] != [str, np.ndarray, int, int, float] or parts[0] != "MT19937":
        return None
    keys = parts[1]
    return ("MT19937", keys.astype(np.uint32), *parts[2:]) if keys.shape == (624,) and keys.dtype.kind in "ui" else None
