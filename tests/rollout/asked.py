"""Settings of a rollout for tests: what a worker's flags say by default, with changes."""

from dataclasses import fields, replace

from drifting_vla_jax.core.settings import defaults
from drifting_vla_jax.evaluate.evaluate import evaluate
from drifting_vla_jax.rollout.chunking.base import RECEDING, Execution
from drifting_vla_jax.rollout.runner import WorkerSettings
from drifting_vla_jax.rollout.settings import RolloutSettings, Simulation


def executing(execution: str = "receding", ensemble_decay: float = 0.0, **changes) -> Execution:
    """A way of executing chunks that leads, waits and blends by nothing unless told to."""
    return replace(RECEDING, execution=execution, ensemble_decay=ensemble_decay, **changes)


def asked(env: str, tasks, **changes) -> dict:
    """{"rollout", "simulation"} and those of the changes that are settings of neither."""
    own = {name: changes.pop(name) for name in ("options", "frame_skip", "variations") if name in changes}
    simulation = {"options": {}} | defaults(Simulation) | {"env": env, "tasks": tuple(tasks)} | own
    known = {field.name for field in fields(RolloutSettings)}
    rollout = defaults(RolloutSettings) | {name: changes.pop(name) for name in set(changes) & known}
    return {"rollout": RolloutSettings(**rollout), "simulation": Simulation(**simulation), **changes}


def worker_settings(server: str, env: str, tasks, out, **changes) -> WorkerSettings:
    return WorkerSettings(server=server, out=out, **asked(env, tasks, **changes))


def evaluated(policy, out, env: str, tasks, **changes) -> dict:
    """What an evaluation of the policy finds."""
    return evaluate(policy, out=out, **asked(env, tasks, **changes))
