"""What the EMA weights make of held-out episodes: errors for the log, samples and their drift for the figures.

``eval_step`` is a pure function, compiled once; ``Validator`` feeds it the same observations every time, with the same noise.
Each set of a mixture is validated by itself (``MixtureValidator``). A data set without validation episodes logs and draws
nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.mixture import Mixture
from drifting_vla_jax.data.normalization import ActionNormalizer, ActionSpaces
from drifting_vla_jax.figures.inputs import FigureInputs
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.base import Target
from drifting_vla_jax.objectives.registry import make_field, make_objective
from drifting_vla_jax.train import distributed, sharding
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS, FrozenInputs
from drifting_vla_jax.train.partition import merge
from drifting_vla_jax.train.state import abstract_state
from drifting_vla_jax.train.step import with_text
from drifting_vla_jax.train.validation_metrics import Drawn, measure, validation_metrics
from drifting_vla_jax.types import Batch, views

log = logging.getLogger(__name__)

EPISODE_STEPS = 40  # of the one episode that is followed: its observations, and the frames of its video


@struct.dataclass
class EvalOutputs:
    """What ``eval_step`` draws for b held-out observations, network units.

    Attributes:
      samples: from the EMA weights.
      drift: where the raw drifting field carries each, on average over temperatures.
      drift_rms: of the field of each temperature.
      shares: how much the action tokens look at each token of the context.
      figures: scalars worth logging.
    """

    samples: Float[Array, "b g h a"]
    drift: Float[Array, "b g h a"]
    drift_rms: Float[Array, " t"]
    shares: Float[Array, "b n"]
    figures: dict[str, Array]


def eval_step(
    ema_params: dict, batch: Batch, rng: Array, borrowed: FrozenInputs = NO_FROZEN_INPUTS, *, config: ConfigDict
) -> EvalOutputs:
    """g samples per held-out observation, the loss of the objective there, and the drifting field at the samples."""
    b, h, _ = batch.target.shape
    params, observation = merge(ema_params, borrowed.params), with_text(batch, borrowed).observation
    model, objective = DriftingVLA(config), make_objective(config)
    context = model.apply({"params": params}, observation, method=model.encode)

    def generate(noise, time, **options):
        return model.apply({"params": params}, context, noise, time, method=model.generate, **options)

    key = jax.random.wrap_key_data(rng)
    noise = jax.random.normal(key, (b, objective.samples, h, config.model.noise_dim))
    samples = objective.sample(generate, noise)
    _, inside = generate(noise, jnp.zeros((b, 1)), mutable=["intermediates"])
    shares = jnp.concatenate(  # one row per fusion layer, whether layers are stacked or not
        [x.reshape(-1, b, x.shape[-1]) for x in jax.tree.leaves(inside["intermediates"]["fusion"])]
    )
    expert = Target(batch.target, batch.mask, jnp.ones(b, bool), batch.task, context.condition)
    loss, _, _ = objective.loss(generate, expert, key, jnp.float32(1.0), objective.init_state())
    field = make_field(config).field(samples, batch.target, batch.mask)
    figures = {"loss": jnp.mean(loss), **field.sizes}
    return EvalOutputs(samples, field.drift, field.rms, jnp.mean(shares, axis=0), figures)


def compile_eval_step(config: ConfigDict, mesh: Mesh) -> Callable[[dict, Batch, Array, FrozenInputs], EvalOutputs]:
    """``eval_step`` jitted over the mesh; all processes have the whole result."""
    params = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh).ema_params)

    def step(params, batch, rng, borrowed):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return eval_step(params, batch, rng, borrowed, config=config)

    return jax.jit(
        step,
        in_shardings=(params, sharding.batch_sharding(mesh), sharding.replicated(mesh), None),
        out_shardings=sharding.replicated(mesh),
    )


@dataclass(frozen=True)
class _Episode:
    """One held-out episode: its views, its n steps, their frames [n v H W 3], and a batch that begins with them."""

    task: str
    instruction: str
    views: np.ndarray
    steps: np.ndarray
    frames: np.ndarray
    batch: Batch
    known: tuple[np.ndarray, ...]


class Validator:
    """The same few batches and the same episode every time: this process's rows on the host, and what is known of all."""

    def __init__(
        self,
        dataset: DataSet | Mixture,
        actions: ActionNormalizer,
        config: ConfigDict,
        mesh: Mesh,
        borrowed: FrozenInputs,
        encoder_hash: str | None,
        eval_step: Callable[[dict, Batch, Array, FrozenInputs], EvalOutputs],
    ):
        self._dataset, self._actions, self._config, self._mesh = dataset, actions, config, mesh
        self._borrowed, self._eval_step, self._encoder_hash = borrowed, eval_step, encoder_hash
        self._rng = sharding.put(jax.random.key_data(jax.random.key(config.seed)), mesh)
        self._on_devices = sharding.batch_sharding(mesh)
        self._validation = self._read(config.train.eval_batches)
        self._metrics = validation_metrics(config.train.metrics)
        self._episode: _Episode | None = None

    def validate(self, ema_params: dict) -> dict[str, float]:
        """Errors in physical units, and the objective's own figures; the same in every process."""
        rows = []
        for number, (batch, known) in enumerate(self._validation):
            distributed.heartbeat(f"validation batch {number}")
            outputs = self._draw(ema_params, batch)
            rows.append(self._measure(outputs.samples, known) | {n: float(x) for n, x in outputs.figures.items()})
        return {f"val/{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _measure(self, samples: np.ndarray, known: tuple[np.ndarray, ...]) -> dict[str, float]:
        """Every metric of samples [b g h a] of a batch whose target, mask, state and task are known."""
        target, mask, state, _ = known
        position = self._actions.position(state)
        drawn = Drawn(
            samples=samples,
            target=target,
            mask=mask,
            chunks=self._actions.denormalise(samples, position[:, None]),
            wanted=self._actions.denormalise(target, position),
            layout=self._actions.layout,
        )
        return measure(drawn, self._metrics)

    def snapshot(self, ema_params: dict, step: int) -> FigureInputs:
        """What the figures show of this step: the first validation batch, and one episode from its start to its end."""
        distributed.heartbeat(f"what the figures of step {step} show")
        if self._episode is None:
            self._episode = self._follow()
        config, follow = self._config, self._episode
        batch, (target, mask, state, task) = self._validation[0]
        drawn = self._draw(ema_params, batch)
        seen = self._draw(ema_params, follow.batch)
        (episode_target, episode_mask, episode_state, _), n = follow.known, len(follow.steps)
        position, episode_position = self._actions.position(state), self._actions.position(episode_state)[:n]
        return FigureInputs(
            step=step,
            control_hz=self._dataset.metadata["control_hz"] / config.action.stride,
            tasks=tuple(config.env.tasks),
            temperatures=np.array(make_field(config).temperatures),
            samples=drawn.samples,
            drift=drawn.drift,
            drift_rms=drawn.drift_rms,
            target=target,
            mask=mask,
            chunks=self._actions.denormalise(drawn.samples, position[:, None]),
            wanted=self._actions.denormalise(target, position),
            task=task,
            position=position,
            episode_task=follow.task,
            instruction=follow.instruction,
            cameras=tuple(config.env.cameras[view] for view in follow.views),
            frames=follow.frames,
            episode_chunks=self._actions.denormalise(seen.samples[:n], episode_position[:, None]),
            episode_wanted=self._actions.denormalise(episode_target[:n], episode_position),
            episode_mask=episode_mask[:n].max(-1),
            episode_position=episode_position,
            episode_steps=follow.steps,
            attention=self._attention(seen.shares[:n])[:, follow.views],
        )

    def _draw(self, ema_params: dict, batch: Batch) -> EvalOutputs:
        return jax.device_get(
            self._eval_step(ema_params, pipeline.to_device(batch, self._on_devices), self._rng, self._borrowed)
        )

    def _read(self, count: int, only: np.ndarray | None = None) -> list[tuple[Batch, tuple[np.ndarray, ...]]]:
        """Batches of held-out rows: this process's own, and target, mask, state and task of all of it."""
        iterator = pipeline.batches(
            self._dataset,
            "val",
            self._actions,
            self._config,
            train=False,
            sharding=self._on_devices,
            encoder_hash=self._encoder_hash,
            only=only,
        )
        gather = jax.jit(lambda arrays: arrays, out_shardings=sharding.replicated(self._mesh))
        out = []
        for batch, _ in zip(iterator, range(count)):
            known = (batch.target, batch.mask, batch.observation.state, batch.task)
            everywhere = gather(jax.make_array_from_process_local_data(self._on_devices, known))
            out.append((batch, jax.device_get(everywhere)))
        return out

    def _follow(self) -> _Episode:
        """The first held-out episode of the first task that has one, evenly spaced over its steps."""
        split, config = self._dataset.split("val"), self._config
        task = next(task for task in config.env.tasks if self._dataset.tasks.index(task) in split.task)
        first = int(np.flatnonzero(split.task == self._dataset.tasks.index(task))[0])
        views = np.arange(len(config.env.cameras)) if split.seen is None else np.flatnonzero(split.seen[first])
        length = int(split.last[first]) - first + 1
        n = min(EPISODE_STEPS, length, config.data.batch_size)
        steps = np.linspace(0, length - 1, n).round().astype(int)
        batch, known = self._read(1, only=np.resize(first + steps, config.data.batch_size))[0]
        return _Episode(
            task=task,
            instruction=self._dataset.instructions[split.prompt_ids[split.prompts[first, 0]]],
            views=views,
            steps=steps,
            frames=np.stack([split.images(first + step)[views] for step in steps]),
            batch=batch,
            known=known,
        )

    def _attention(self, shares: np.ndarray) -> np.ndarray:
        """[n v r r]: the shares of each view's patches, the present time step's alone; tokens come view by view."""
        config = self._config
        others = config.data.max_tokens + config.model.proprioception  # words and state come after the views
        per_view = (shares.shape[1] - others) // views(config)
        side = math.isqrt(per_view)
        shares = shares[:, : per_view * views(config)].reshape(len(shares), views(config), per_view)
        patches = shares[:, -len(config.env.cameras) :, per_view - side**2 :]  # a class token comes before the patches
        return patches.reshape(*patches.shape[:2], side, side)


class MixtureValidator:
    """Every set of a mixture by itself: each metric of each set, val/loss/<set>, and their mean by the sets' weights.

    Sets that hold out no episode are not among them.
    """

    def __init__(self, sets: Mapping[str, Validator], weights: Mapping[str, float], acting: str):
        """``acting``: the set that figures are of."""
        self._sets, self._weights, self._acting = sets, weights, acting

    def validate(self, ema_params: dict) -> dict[str, float]:
        """As ``Validator.validate``, with the sets' own beside."""
        found = {name: held_out.validate(ema_params) for name, held_out in self._sets.items()}
        weights = [self._weights[name] for name in found]
        each = {f"{metric}/{name}": value for name, values in found.items() for metric, value in values.items()}
        metrics = found[self._acting]
        mean = {m: float(np.average([values[m] for values in found.values()], weights=weights)) for m in metrics}
        return mean | each

    def snapshot(self, ema_params: dict, step: int) -> FigureInputs:
        """What the figures show: the set that the policy acts for."""
        return self._sets[self._acting].snapshot(ema_params, step)


def make_validator(
    dataset: DataSet | Mixture, actions: ActionNormalizer | ActionSpaces, config: ConfigDict, *more
) -> Validator | MixtureValidator | None:
    """Of a data set or of a mixture, ``more`` as ``Validator`` takes it; None, and a line, where no episode is held out."""
    if isinstance(dataset, DataSet):
        sets = {"": (dataset, actions)}
    else:
        sets = {name: (dataset.alone(name), space) for name, space in zip(dataset.names, actions.sets)}
    without = [one.path for one, _ in sets.values() if not _holds_out(one, config)]
    if without:
        log.warning(
            "%s: no episode of config.env.tasks is held out; nothing is validated or drawn there%s",
            ", ".join(without),
            ", and the best checkpoint is the latest" if len(without) == len(sets) else "",
        )
    found = {name: Validator(*pair, config, *more) for name, pair in sets.items() if _holds_out(pair[0], config)}
    if not found or isinstance(dataset, DataSet):
        return found.get("")
    acting = config.serve.dataset or dataset.names[0]
    weights = {name: weight for name, weight in zip(dataset.names, dataset.weights) if name in found}
    return MixtureValidator(found, weights, acting if acting in found else next(iter(found)))


def _holds_out(dataset: DataSet | Mixture, config: ConfigDict) -> bool:
    return any(episode["task"] in config.env.tasks for episode in dataset.metadata["episodes"].get("val", ()))
