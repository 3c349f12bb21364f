"""What the numbers of an action are: the layouts on which a data set, the network and a policy's clients agree.

                  at every boundary                                              in the network
    end_effector  x y z (m, world) | qx qy qz qw | gripper                [8]    position 3 | rotation 6 | gripper 1    [10]
    bimanual      the same of the left arm, then of the right             [16]   likewise                               [20]
    joints        config.action.joints | config.action.grippers           [k]    as at the boundary                     [k]

Grippers are 0 (closed) to 1 (open). Positions and joints may be relative to where they are now
(``config.action.frame``): the state then begins with their present values, in the order in which the action names them.
How one becomes the other is in ``data/normalization.py``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not needed where an arm is driven
    from ml_collections import ConfigDict

LAYOUTS = ("end_effector", "bimanual", "joints")
NETWORK_WIDTH = {"rotation": 6}  # of a kind of part whose width in the network is another than at the boundary
RELATIVE = ("position", "joints")  # kinds of parts that may be relative
_EFFECTOR = {"position": ("x", "y", "z"), "rotation": ("qx", "qy", "qz", "qw"), "gripper": ("gripper",)}


@dataclass(frozen=True)
class Part:
    """Neighbouring numbers of one kind.

    Attributes:
      name: unique; of the network's head, and of the part where parts drift apart (``objectives/drifting/grouping.py``).
      kind: position | rotation | gripper | joints.
      boundary, network: where they are in an action.
      present: where the state holds the values that they may be relative to; None: they never are.
    """

    name: str
    kind: str
    boundary: slice
    network: slice
    present: slice | None

    @property
    def width(self) -> int:
        """In the network."""
        return self.network.stop - self.network.start


@dataclass(frozen=True)
class ActionLayout:
    """See the module's docstring. A data set's metadata and a checkpoint hold these three fields.

    Attributes:
      name: one of ``LAYOUTS``.
      joints, grippers: names, for "joints" alone.

    Raises:
      ValueError: there is no such layout, or it has other names than it needs.
    """

    name: str = "end_effector"
    joints: tuple[str, ...] = ()
    grippers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.name not in LAYOUTS:
            raise ValueError(f"config.action.layout is {self.name!r}; expected {' or '.join(LAYOUTS)}")
        named = (*self.joints, *self.grippers)
        if self.name == "joints" and not self.joints:
            raise ValueError("config.action.layout is joints, but config.action.joints names none")
        if self.name != "joints" and named:
            raise ValueError(
                f"config.action.joints and grippers name {', '.join(named)}, but config.action.layout is {self.name}; "
                "leave them empty or set it to joints"
            )
        twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
        if twice:
            raise ValueError(f"config.action.joints and grippers name {', '.join(twice)} more than once")

    @functools.cached_property
    def _named(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, kind and names of every part, in order."""
        if self.name == "joints":
            parts = [("joints", "joints", self.joints), ("gripper", "gripper", self.grippers)]
            return [part for part in parts if part[2]]
        if self.name == "end_effector":
            return [(kind, kind, names) for kind, names in _EFFECTOR.items()]
        arms = itertools.product(("left", "right"), _EFFECTOR.items())
        return [(f"{arm}_{kind}", kind, tuple(f"{arm} {name}" for name in names)) for arm, (kind, names) in arms]

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        parts, boundary, network, present = [], 0, 0, 0
        for name, kind, names in self._named:
            width, inside = len(names), NETWORK_WIDTH.get(kind, len(names))
            state = slice(present, present + width) if kind in RELATIVE else None
            at, within = slice(boundary, boundary + width), slice(network, network + inside)
            parts.append(Part(name, kind, at, within, state))
            boundary, network, present = at.stop, within.stop, present if state is None else state.stop
        return tuple(parts)

    @property
    def names(self) -> tuple[str, ...]:
        """Of every number of an action at the boundary."""
        return tuple(itertools.chain.from_iterable(names for _, _, names in self._named))

    @property
    def dim(self) -> int:
        """Numbers of an action at the boundary."""
        return self.parts[-1].boundary.stop

    @property
    def network_dim(self) -> int:
        """a: numbers of an action in the network."""
        return self.parts[-1].network.stop

    @property
    def present_dim(self) -> int:
        """p: how many entries the state begins with that say where things are now."""
        return max(part.present.stop for part in self.parts if part.present)

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict | None) -> ActionLayout:
        """None: of what was written when there was one layout."""
        if data is None:
            return END_EFFECTOR
        return cls(data["name"], tuple(data["joints"]), tuple(data["grippers"]))

    def __str__(self) -> str:
        if self.name != "joints":
            return self.name
        grippers = f"; grippers {', '.join(self.grippers)}" if self.grippers else ""
        return f"joints ({', '.join(self.joints)}{grippers})"


END_EFFECTOR = ActionLayout()


def layout_of(config: ConfigDict) -> ActionLayout:
    """What ``config.action`` says the numbers of an action are.

    Raises:
      ValueError: see ``ActionLayout``.
    """
    return _layout(config.action.layout, tuple(config.action.joints), tuple(config.action.grippers))


@functools.cache
def _layout(name: str, joints: Sequence[str], grippers: Sequence[str]) -> ActionLayout:
    return ActionLayout(name, joints, grippers)
