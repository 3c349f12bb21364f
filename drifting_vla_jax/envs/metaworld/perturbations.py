"""What a policy meets at evaluation and no demonstration has shown: other words, another camera, other light, other colours.

    words    the task in words that no demonstration was given (``UNSEEN``)
    camera   each view from a little elsewhere: up to 4 degrees around and above, 4% of the distance, 2 cm of aim
    light    half to three quarters as bright or a quarter to a half brighter, each colour of it up to a fifth more or less
    colour   table, walls and floor in a random colour; robot and objects keep theirs

Each is a function of the episode's seed, the same for every policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from drifting_vla_jax.core.ranges import Choice
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.envs.info import Perturbation

if TYPE_CHECKING:
    import mujoco

CHANGES = ("none", "words", "camera", "light", "colour")
PERTURBATIONS = {
    "words": Perturbation("the same, the task in words never heard", {"change": "words"}),
    "camera": Perturbation("the same, cameras a little elsewhere", {"change": "camera"}),
    "light": Perturbation("the same, other light", {"change": "light"}),
    "colour": Perturbation("the same, another colour of table, walls and floor", {"change": "colour"}),
}


@dataclass(frozen=True)
class Settings:
    """config.env.metaworld: ``change``: what differs from the scenes of demonstrations."""

    change: Annotated[str, Choice(CHANGES), Option("none", "metaworld: what no demonstration has shown")]


UNCHANGED = Settings("none")

AROUND_DEGREES, ABOVE_DEGREES, NEARER, AIM_METRES = 4.0, 4.0, 0.04, 0.02
DARKER, BRIGHTER, CAST = (0.5, 0.75), (1.25, 1.5), 0.2
TINT = 0.6  # how much of the background's own colour the random one replaces
BACKGROUND = ("basic_floor", "table_wood", "wall_metal")  # materials of every task's scene

# At most 44 bytes, each unlike all the phrases of ``tasks.INSTRUCTIONS``.
UNSEEN: dict[str, str] = {
    "assembly": "slip the ring down over the peg",
    "basketball": "throw the ball into the net from above",
    "bin-picking": "bring the block from one bin into the other",
    "box-close": "set the lid onto the open box",
    "button-press": "press in the red knob of the box",
    "button-press-topdown": "push the knob down from the top",
    "button-press-topdown-wall": "press the top button on the wall's far side",
    "button-press-wall": "press the box's button, pass by the wall",
    "coffee-button": "make me a coffee",
    "coffee-pull": "bring the mug from the machine to the mark",
    "coffee-push": "bring the mug under the spout",
    "dial-turn": "give the dial a turn",
    "disassemble": "separate the ring from its peg",
    "door-close": "make the safe's door shut",
    "door-lock": "bolt the door",
    "door-open": "get the safe open",
    "door-unlock": "unbolt the door",
    "drawer-close": "make the drawer go back in",
    "drawer-open": "get the drawer out of the cabinet",
    "faucet-close": "stop the water",
    "faucet-open": "let the water run",
    "hammer": "take the hammer and strike the nail",
    "hand-insert": "lower the block down into the hole",
    "handle-press": "bring the handle to the bottom",
    "handle-press-side": "from the side, bring the handle down",
    "handle-pull": "bring the handle to the top",
    "handle-pull-side": "from the side, bring the handle up",
    "lever-pull": "bring the lever to its upper end",
    "peg-insert-side": "stick the green peg in sideways",
    "peg-unplug-side": "draw the plug out to the side",
    "pick-out-of-hole": "fetch the thing that lies in the hole",
    "pick-place": "grasp the red block, bring it to the mark",
    "pick-place-wall": "bring the block to the mark across the wall",
    "plate-slide": "get the dark plate under the net",
    "plate-slide-back": "move the plate back toward you",
    "plate-slide-back-side": "move the plate sideways, out of the net",
    "plate-slide-side": "move the plate sideways, under the net",
    "push": "shove the puck over to the green ball",
    "push-back": "bring the puck nearer to the robot's side",
    "push-wall": "shove the block to the mark past the wall",
    "reach": "put the gripper where the red ball is",
    "reach-wall": "put the gripper at the ball past the wall",
    "shelf-place": "store the block on the shelf",
    "soccer": "shoot the ball between the posts",
    "stick-pull": "with the stick, fetch the thermos",
    "stick-push": "with the stick, drive the thermos away",
    "sweep": "clear the block off to the right",
    "sweep-into": "make the block fall into the hole",
    "window-close": "move the pane until the window is shut",
    "window-open": "let some air in",
}


def moved(view: tuple, rng: np.random.Generator) -> tuple:
    """(lookat (m), distance (m), azimuth, elevation (degrees)) of a camera a little elsewhere."""
    lookat, distance, azimuth, elevation = view
    aim = np.asarray(lookat) + rng.uniform(-AIM_METRES, AIM_METRES, 3)
    around, above = rng.uniform(-1, 1, 2) * (AROUND_DEGREES, ABOVE_DEGREES)
    return tuple(aim), distance * (1 + rng.uniform(-NEARER, NEARER)), azimuth + around, elevation + above


def changed_arrays(model: mujoco.MjModel) -> list[np.ndarray]:
    """What ``relight`` and ``recolour`` write into, to be put back before the next reset."""
    return [*_lights(model), model.mat_rgba]


def relight(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Another brightness and colour of the light, the same of all lights."""
    gain = rng.uniform(*(DARKER, BRIGHTER)[rng.integers(2)]) * (1 + rng.uniform(-CAST, CAST, 3))
    for light in _lights(model):
        light[:] = np.clip(light * gain, 0, 1)


def recolour(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Another colour of what the scene stands on and before."""
    for name in BACKGROUND:
        rgba = model.mat_rgba[model.material(name).id]
        rgba[:3] = (1 - TINT) * rgba[:3] + TINT * rng.uniform(0, 1, 3)


def _lights(model: mujoco.MjModel) -> list[np.ndarray]:
    head = model.vis.headlight
    return [model.light_diffuse, head.diffuse, head.ambient]
