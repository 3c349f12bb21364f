"""One optimiser step: pure functions, no I/O.

Randomness is ``fold_in(state.rng, state.step)``, so a step is a function of the state and the batch. Over a mesh the
means inside the objective are global means: the result does not depend on how many devices share the work.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from drifting_vla_jax.data.augment import augmented
from drifting_vla_jax.models.layers import constrain_batch_sharding
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.base import Objective, State, Target
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS, FrozenInputs
from drifting_vla_jax.train.optimizer import make_optimizer, schedule
from drifting_vla_jax.train.partition import merge, split_learned
from drifting_vla_jax.train.state import TrainState, abstract_state
from drifting_vla_jax.types import Batch, ModelObservation

Metrics = dict[str, Array]


def objective_loss(
    params: dict,
    batch: Batch,
    key,
    config: ConfigDict,
    objective: Objective,
    objective_state: State = (),
    progress: Float[Array, ""] | float = 0.0,
):
    """Mean loss of a batch: the observation is encoded once, the objective draws what it needs from it.

    Args:
      params: of the whole network, borrowed ones included.
      objective_state: of the step before.
      progress: share of the training that is done.

    Returns:
      the loss, and (scalars worth logging, the objective's next state).
    """
    key_drop, key = jax.random.split(key)
    instructed = jax.random.uniform(key_drop, batch.task.shape) >= objective.drop_instruction
    observation = augmented(batch.observation)
    observation = observation.replace(prompt=jnp.where(instructed, observation.prompt, -1))
    generate, summary = _network(params, observation, config, summarise=objective.needs_summary)
    expert = Target(batch.target, batch.mask, instructed, batch.task, summary)
    loss, info, objective_state = objective.loss(generate, expert, key, progress, objective_state)
    return jnp.mean(loss), (info, objective_state)


def _network(params: dict, observation: ModelObservation, config: ConfigDict, summarise: bool):
    """``generate(noise [b g h z], time) -> chunks [b g h a]`` of these observations, and a summary of each [b d].

    Observations are encoded once. With ``config.train.micro_batches`` above 1 they go through encoders and network a part
    at a time: the loop's body is computed again for the gradient, so that no more than one part's activations exist, and
    parameters' gradients add up. The objective sees all samples at once either way: its statistics are the whole batch's.
    """
    model, parts = DriftingVLA(config), config.train.micro_batches

    def encode(observation):
        return model.apply({"params": params}, observation, method=model.encode)

    if parts == 1:
        context = encode(observation)

        def generate(noise, time):
            return model.apply({"params": params}, context, noise, time, method=model.generate)

        return generate, jax.lax.stop_gradient(context.condition) if summarise else None

    def look(rows):
        return encode(observation.replace(**rows))

    each = {name: getattr(observation, name) for name in ("images", "features", "state", "prompt", "seen")}

    def generate(noise, time):
        def part(rows, noise, time):
            return model.apply({"params": params}, look(rows), noise, time, method=model.generate)

        return _in_parts(part, parts, each, noise, time)

    summary = _in_parts(lambda rows: look(rows).condition, parts, each) if summarise else None
    return generate, jax.lax.stop_gradient(summary)


def _in_parts(function: Callable, parts: int, *rows):
    """``function(*rows)`` over parts of the leading axis, one after the other, kept by nothing but their inputs.

    Part j takes rows j, j + parts, ...: of rows split over devices every device has its share in every part.
    """

    def cut(x):
        return x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    @jax.checkpoint
    def body(part):
        return function(*jax.tree.map(constrain_batch_sharding, part))

    out = jax.lax.map(body, jax.tree.map(cut, rows))
    return out.swapaxes(0, 1).reshape(-1, *out.shape[2:])


def sample_chunks(
    params: dict,
    observation: ModelObservation,
    noise: Float[Array, "b g h z"],
    config: ConfigDict,
    objective: Objective | None = None,
) -> Float[Array, "b g h a"]:
    """Acts: g chunks per observation in network units, by the objective's own sampler.

    Args:
      objective: None: as configured.
    """
    model = DriftingVLA(config)
    context = model.apply({"params": params}, observation, method=model.encode)

    def generate(noise, time):
        return model.apply({"params": params}, context, noise, time, method=model.generate)

    return (objective or make_objective(config)).sample(generate, noise)


def train_step(
    state: TrainState, batch: Batch, borrowed: FrozenInputs = NO_FROZEN_INPUTS, *, config: ConfigDict
) -> tuple[TrainState, Metrics]:
    """One update. A step whose loss or gradient is not finite changes nothing but says so in ``finite``."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
    objective = make_objective(config)
    learned, fixed = split_learned(state.params, config)
    told = with_text(batch, borrowed)

    def loss_fn(learned):
        params = merge(learned, fixed, borrowed.params)
        progress = state.step / config.train.steps
        return objective_loss(params, told, key, config, objective, state.objective_state, progress)

    (loss, (info, objective_state)), grads = jax.value_and_grad(loss_fn, has_aux=True)(learned)
    grad_norm = optax.global_norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)

    updates, opt_state = make_optimizer(config).update(grads, state.opt_state, learned)
    params = merge(optax.apply_updates(learned, updates), fixed)
    t = state.step.astype(jnp.float32)
    decay = jnp.minimum(config.train.ema_decay, (1 + t) / (10 + t))
    ema_params = optax.incremental_update(params, state.ema_params, 1 - decay)

    def keep(new, old):
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    new_state = state.replace(
        step=state.step + finite,
        params=keep(params, state.params),
        ema_params=keep(ema_params, state.ema_params),
        opt_state=keep(opt_state, state.opt_state),
        objective_state=keep(objective_state, state.objective_state),
    )
    metrics = {"loss": loss, "grad_norm": grad_norm, "lr": schedule(config)(state.step), "finite": finite}
    return new_state, metrics | info


def with_text(batch: Batch, borrowed: FrozenInputs) -> Batch:
    """A batch that refers to the table of encoded instructions, if there is one."""
    if borrowed.text is None:
        return batch
    return batch.replace(observation=batch.observation.replace(text=borrowed.text))


def compile_train_step(
    config: ConfigDict, mesh: Mesh
) -> Callable[[TrainState, Batch, FrozenInputs], tuple[TrainState, Metrics]]:
    """``train_step`` jitted over the mesh; the state is donated, so its memory is reused."""
    state = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh))

    def step(state, batch, borrowed):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return train_step(state, batch, borrowed, config=config)

    return jax.jit(
        step,
        in_shardings=(state, sharding.batch_sharding(mesh), None),  # what is borrowed lies where it was put
        out_shardings=(state, sharding.replicated(mesh)),
        donate_argnums=0,
    )
