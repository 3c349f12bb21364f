"""What names a data set's contents, wherever it lies: a run remembers it, and notices on resuming that it is another's.

States, actions, instructions and tasks are read entirely; of the pictures ``LOOK`` time steps of each split, and of the rest the
number of bytes: a set of terabytes is named in a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from google.protobuf.message import DecodeError

from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.data.mixture import Mixture

LOOK = 32  # time steps of a split whose pictures are read


@dataclass(frozen=True)
class SplitIdentity:
    """One split.

    Attributes:
      episodes, steps: how many.
      numbers: fingerprint of states, actions, ends of episodes and keyframes.
      told: fingerprint of every episode's task and instructions.
      images: of each view, the fingerprint of some of its pictures.
      size: bytes of all records.
    """

    episodes: int
    steps: int
    numbers: str
    told: str
    images: Mapping[str, str]
    size: int

    def changes(self, now: SplitIdentity) -> Iterator[str]:
        """In words; where there are more or fewer steps, all else has to differ and is not said."""
        if (self.episodes, self.steps) != (now.episodes, now.steps):
            yield f"{self.episodes} -> {now.episodes} episodes, {self.steps} -> {now.steps} steps"
            return
        views = [view for view in self.images if self.images[view] != now.images.get(view, self.images[view])]
        if self.numbers != now.numbers:
            yield "other states or actions"
        if self.told != now.told:
            yield "other tasks or instructions"
        if views:
            yield f"other images of {', '.join(views)}"
        if self.size != now.size and self.told == now.told and not views:
            yield f"{self.size} -> {now.size} bytes of records, mostly images"


@dataclass(frozen=True)
class Identity:
    """Of a data set, what names each of its splits."""

    splits: Mapping[str, SplitIdentity]

    def changes(self, now: Identity) -> list[str]:
        """How ``now`` differs, in words; nothing where the contents are the same."""
        said = []
        for split in dict.fromkeys([*self.splits, *now.splits]):
            if split not in now.splits or split not in self.splits:
                said.append(f"{split}: {'new' if split in now.splits else 'gone'}")
                continue
            said += [f"{split}: {change}" for change in self.splits[split].changes(now.splits[split])]
        return said

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict | None) -> Identity | None:
        """None: of a checkpoint that was written before there were identities."""
        return data and cls({name: SplitIdentity(**split) for name, split in data["splits"].items()})


def identify(data: DataSet | Mixture) -> tuple[Identity, ...]:
    """Of a data set, or of every set of a mixture in its order.

    Raises:
      OSError, ValueError: files are missing or damaged.
    """
    sets = (data,) if isinstance(data, DataSet) else data.sets
    return tuple(Identity({name: _identify(each, name) for name in each.metadata["episodes"]}) for each in sets)


def _identify(data: DataSet, name: str) -> SplitIdentity:
    split, episodes = data.split(name), data.metadata["episodes"][name]
    arrays = [split.state, split.actions, split.last, *([] if split.keyframe is None else [split.keyframe])]
    seen = [
        _pictures(data, split, name, row)
        for row in np.unique(np.linspace(0, len(split) - 1, LOOK).astype(int)).tolist()
    ]
    return SplitIdentity(
        episodes=len(episodes),
        steps=len(split),
        numbers=fingerprint(*arrays),
        told=fingerprint([[each["task"], *(data.instructions[i] for i in each["instructions"])] for each in episodes]),
        images={camera: fingerprint(*(pictures[camera] for pictures in seen)) for camera in data.cameras},
        size=data.record_bytes[name],
    )


def _pictures(data: DataSet, split: Split, name: str, row: int) -> dict[str, bytes]:
    try:
        found = split.pictures[row]
        return {camera: found[camera] for camera in data.cameras}
    except (KeyError, IndexError, DecodeError) as error:
        raise ValueError(
            f"record {row} of split {name} of data set {data.path} has no image of {', '.join(data.cameras)} that can be read: "
            "its files are damaged or not all there; copy or build it again"
        ) from error
