"""What drifts together: which entries of a chunk make up one point of the drifting field.

    chunk   the whole chunk [h a]: modes of behaviour stay whole (the default)
    step    each time step [a] alone: less to match, but steps may choose different modes
    dim     each action dimension [h] alone
    block   the parts of the action's layout apart (position, rotation, gripper), each with a ruler of its own

Each set has its own kernel; sets of the same width share the ruler and the rms of the field.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout

GROUPINGS = ("chunk", "step", "dim", "block")


def group(
    x: Float[Array, "b n h a"], grouping: str, layout: ActionLayout = END_EFFECTOR
) -> dict[str, Float[Array, "sets n k"]]:
    """Chunks -> points, by name of the part of the action ("" where there is but one); observations stay outermost."""
    b, n, h, a = x.shape
    if grouping == "chunk":
        return {"": x.reshape(b, n, h * a)}
    if grouping == "step":
        return {"": jnp.moveaxis(x, 2, 1).reshape(b * h, n, a)}
    if grouping == "dim":
        return {"": jnp.moveaxis(x, 3, 1).reshape(b * a, n, h)}
    if grouping == "block":
        return {part.name: x[..., part.network].reshape(b, n, h * part.width) for part in layout.parts}
    raise ValueError(f"config.objective.drifting.grouping is {grouping!r}; expected one of {', '.join(GROUPINGS)}")


def ungroup(points: dict[str, Float[Array, "sets n k"]], grouping: str, h: int, a: int) -> Float[Array, "b n {h} {a}"]:
    """The chunks that ``group`` made these points of."""
    if grouping == "block":
        return jnp.concatenate([part.reshape(*part.shape[:2], h, -1) for part in points.values()], axis=3)
    x = points[""]
    n = x.shape[1]
    if grouping == "step":
        return jnp.moveaxis(x.reshape(-1, h, n, a), 1, 2)
    if grouping == "dim":
        return jnp.moveaxis(x.reshape(-1, a, n, h), 1, 3)
    return x.reshape(-1, n, h, a)


def repeat_per_group(
    values: Float[Array, "b n"], grouping: str, h: int, a: int, layout: ActionLayout = END_EFFECTOR
) -> dict[str, Float[Array, "sets n"]]:
    """Numbers of an observation, handed to each of its sets."""
    sets = {"chunk": 1, "step": h, "dim": a, "block": 1}[grouping]
    repeated = jnp.repeat(values, sets, axis=0)
    return {name: repeated for name in ([part.name for part in layout.parts] if grouping == "block" else ("",))}
