"""Objectives for tests, built as training builds them."""

from configs import base
from drifting_vla_jax.objectives.base import Objective
from drifting_vla_jax.objectives.registry import make_objective


def build(name: str, *, noise_dim: int = 4, tasks: int = 1, width: int = 2, horizon: int = 3, **settings) -> Objective:
    """The objective with these settings, the others as in configs/base.py, but the paper's unit of temperatures.

    ``settings`` are keys of its section; "__" stands for a dot.
    """
    config = base.get_config()
    config.objective.name = name
    config.objective.drifting.temperature_unit = "mean_distance"
    config.objective.update_from_flattened_dict({f"{name}.{k.replace('__', '.')}": v for k, v in settings.items()})
    config.model.noise_dim, config.model.width, config.action.horizon = noise_dim, width, horizon
    config.env.tasks = tuple(f"task-{number}" for number in range(tasks))
    return make_objective(config)
