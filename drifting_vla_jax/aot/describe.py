"""What a configuration amounts to, without data and without weights: only shapes are traced, nothing is allocated.

Sizes of the parts and whether they learn; operations of a policy call and of a training step; memory of a device in
training; what goes in and out; how every parameter lies on the devices. Prefixes are decimal: a kB is 1000 bytes.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from drifting_vla_jax.aot.flops import flops, residual_bytes
from drifting_vla_jax.core.action_layout import ActionLayout, Part, layout_of
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.frozen_encoders import FrozenInputs, abstract_frozen_inputs
from drifting_vla_jax.train.partition import is_trainable, merge, split_learned
from drifting_vla_jax.train.state import TrainState, abstract_state, fake_batch, init_params
from drifting_vla_jax.train.step import objective_loss, sample_chunks, train_step, with_text
from drifting_vla_jax.types import Batch, ModelObservation, abstract, is_mixture

PARAPHRASES = 4  # instructions per task; the data would tell, but there is none


@dataclass(frozen=True)
class Plan:
    """Shapes, dtypes and shardings of a training.

    Attributes:
      params: of the whole network, float32, encoders included.
      state, borrowed: what the train step is given, with shardings.
      batch: of ``config.data.batch_size`` observations, over all devices.
      asked: one observation as a policy hands it to the network: its instruction is encoded already.
      instructions: how many the data set is taken to have.
    """

    config: ConfigDict
    mesh: Mesh
    params: dict
    state: TrainState
    borrowed: FrozenInputs
    batch: Batch
    asked: ModelObservation
    instructions: int


def describe(config: ConfigDict) -> str:
    """The text of ``--mode=describe``."""
    plan = make_plan(config)
    sections = (
        ("MODULES", _modules(plan)),
        ("OPERATIONS of matrix products and convolutions; to multiply and to add are two", _operations(plan)),
        (f"MEMORY of each of {plan.mesh.size} device(s) in training", _memory(plan)),
        ("IN AND OUT", _layout(plan)),
        ("PARAMETERS", _parameters(plan)),
    )
    return "\n\n".join("\n".join([title, *lines]) for title, lines in sections)


def make_plan(config: ConfigDict, mesh: Mesh | None = None) -> Plan:
    """Traces the initialisation of a configuration, over the devices there are if no mesh is given."""
    mesh = mesh or sharding.make_mesh(config)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    instructions = PARAPHRASES * len(config.env.tasks)
    one = abstract(fake_batch(config, 1, prompts=1)).observation
    text = jax.eval_shape(_encoder(config, "encode_text"), params, _instruction(config))
    return Plan(
        config=config,
        mesh=mesh,
        params=params,
        state=abstract_state(config, mesh),
        borrowed=abstract_frozen_inputs(config, params, mesh, instructions),
        batch=_batch(config, params, config.data.batch_size, instructions),
        asked=one.replace(tokens=None, text=text),
        instructions=instructions,
    )


def _batch(config: ConfigDict, params: dict, size: int, instructions: int) -> Batch:
    """A training batch as the pipeline makes it: images or stored features, token ids unless the encoder is frozen."""
    one = abstract(fake_batch(config, 1, prompts=1))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), one)
    seen = batch.observation
    if seen.tokens is not None:
        seen = seen.replace(tokens=jax.ShapeDtypeStruct((min(size, instructions), config.data.max_tokens), jnp.int32))
    if config.data.features:
        features = jax.eval_shape(_encoder(config, "encode_images"), params, seen.images)
        seen = seen.replace(images=None, features=jax.ShapeDtypeStruct(features.shape, jnp.bfloat16))
    return batch.replace(observation=seen)


def _instruction(config: ConfigDict) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, config.data.max_tokens), jnp.int32)


def _encoder(config: ConfigDict, method: str):
    return lambda params, x: DriftingVLA(config).apply({"params": params}, x, method=method)


def _modules(plan: Plan) -> list[str]:
    """Parameters by the network's parts, the largest first."""
    count, learned = Counter(), Counter()
    for path, leaf in flatten_dict(plan.params, sep="/").items():
        part = path.split("/")[0]
        count[part] += math.prod(leaf.shape)
        learned[part] += math.prod(leaf.shape) * is_trainable(path, plan.config)
    rows = [("", "parameters", "trainable", "frozen")]
    for part, n in [*count.most_common(), ("total", count.total())]:
        trained = learned.total() if part == "total" else learned[part]
        rows.append((part, f"{n:,}", f"{trained:,}", f"{n - trained:,}"))
    return table(rows, "<>>>")


def _operations(plan: Plan) -> list[str]:
    c, asked = plan.config, plan.asked
    noise = jax.ShapeDtypeStruct((1, 1, c.action.horizon, c.model.noise_dim), jnp.float32)
    look = flops(_encoder(c, "encode_images"), plan.params, asked.images)
    read = flops(_encoder(c, "encode_text"), plan.params, _instruction(c))
    call = flops(functools.partial(sample_chunks, config=c), plan.params, asked, noise)
    step = flops(functools.partial(train_step, config=c), plan.state, plan.batch, plan.borrowed)
    size, evaluations = c.data.batch_size, make_objective(c).evaluations_per_chunk
    rows = [
        ("image encoder", scaled(look, "FLOP"), f"per observation of {asked.images.shape[1]} images"),
        ("text encoder", scaled(read, "FLOP"), f"per instruction of {c.data.max_tokens} tokens, when first heard"),
        ("the rest", scaled(call - look, "FLOP"), f"per chunk, {evaluations} network evaluation(s)"),
        ("policy call", scaled(call, "FLOP"), "images and the rest"),
        ("training step", scaled(step, "FLOP"), f"forward and backward, {size} observations"),
        ("", scaled(step / size, "FLOP"), "per observation"),
    ]
    return table(rows, "<><")


def _memory(plan: Plan) -> list[str]:
    """What is on a device as the backward pass begins: activations an upper estimate, split evenly over the devices."""
    c, state, devices = plan.config, plan.state, plan.mesh.size
    learned, fixed = split_learned(state.params, c)
    told = with_text(plan.batch, plan.borrowed)

    def loss(learned, fixed, borrowed, batch, objective_state):
        key = jax.random.key(0)
        return objective_loss(merge(learned, fixed, borrowed), batch, key, c, make_objective(c), objective_state)[0]

    kept = residual_bytes(loss, learned, fixed, plan.borrowed.params, told, state.objective_state)
    prefetched = 1 + c.data.prefetch
    parts = [
        ("parameters", _bytes(state.params), "float32"),
        ("their average", _bytes(state.ema_params), "float32; it acts"),
        ("optimiser", _bytes((state.opt_state, state.step, state.rng)), "of what learns"),
        ("objective's state", _bytes(state.objective_state), "what it remembers"),
        ("borrowed weights", _bytes(plan.borrowed.params), f"{c.model.frozen_dtype}, of frozen pretrained encoders"),
        ("borrowed text", _bytes(plan.borrowed.text), f"of {plan.instructions} instructions"),
        ("batches", prefetched * _bytes(plan.batch) // devices, f"{prefetched}, one at work"),
        ("gradients", _bytes(learned), "float32"),
        ("activations", kept // devices, f"kept for the gradient; config.model.remat is {c.model.remat}"),
    ]
    total = sum(size for _, size, _ in parts)
    rows = [(name, scaled(size, "B"), note) for name, size, note in [*parts, ("together", total, "")] if size]
    return table(rows, "<><")


def _layout(plan: Plan) -> list[str]:
    c, mesh = plan.config, plan.mesh
    m, h, size = c.model, c.action.horizon, c.env.image_size
    views = f"{len(c.env.cameras)} views ({', '.join(c.env.cameras)}) of {size} x {size} px, RGB"
    if m.history:
        views += f", now and {m.history} time step(s) before, {m.history_stride} apart"
    if is_mixture(c):
        views += f", each if the data set has it; of {len(c.data.mixture.paths)} sets"
    encode = _encoder(c, "encode")
    context = jax.eval_shape(lambda *args: encode(*args).tokens, plan.params, plan.asked).shape
    layout = layout_of(c)
    state = f"state of {c.env.state_dim}, " if m.proprioception else ""
    rows = [
        ("observation", views),
        ("", f"{state}instruction of at most {c.data.max_tokens} tokens"),
        ("", f"{plan.instructions} different instructions assumed, {PARAPHRASES} per task: only the data would tell"),
        ("context", f"{context[1]} tokens of width {context[2]}"),
        ("noise", f"{h} x {m.noise_dim}"),
        ("chunk, network", f"{h} x {layout.network_dim}: {_inside(layout, c.action.frame)}"),
        ("chunk, boundary", f"{h} x {layout.dim}: {_outside(layout)}"),
        ("mesh", f"{' x '.join(f'{a} {n}' for a, n in mesh.shape.items())}, {mesh.devices.flat[0].platform}"),
    ]
    return table(rows, "<<")


def _inside(layout: ActionLayout, frame: str) -> str:
    """What the network's numbers of an action are."""
    now = {"position": "from the present end effector", "joints": "from the present joints"}
    said = []
    for part in layout.parts:
        names = f"6 of the {part.name.replace('_', ' ')} matrix" if part.kind == "rotation" else _names(layout, part)
        where = now[part.kind] if frame == "relative" and part.present else {"position": "in the world"}.get(part.kind)
        said.append(f"{names} ({where})" if where else names)
    return ", ".join(said)


def _outside(layout: ActionLayout) -> str:
    """What the numbers of an action are that a client is given."""
    unit = {"position": " (m, world)", "gripper": " (0 closed .. 1 open)"}
    return ", ".join(_names(layout, part) + unit.get(part.kind, "") for part in layout.parts)


def _names(layout: ActionLayout, part: Part) -> str:
    return " ".join(layout.names[part.boundary])


def _parameters(plan: Plan) -> list[str]:
    """Path, shape, dtype, PartitionSpec and bytes per device of each, as a training step has it."""
    whole = flatten_dict(plan.params, sep="/")
    held = flatten_dict(merge(plan.state.params, plan.borrowed.params), sep="/")
    rows = [("", "shape", "dtype", "layout", "per device", "")]
    for path, leaf in whole.items():
        there, dtype, layout, size = held.get(path), "", "absent", ""
        if there is not None:
            spec = ", ".join("-" if axis is None else str(axis) for axis in there.sharding.spec)
            dtype, layout, size = there.dtype.name, f"({spec})" if spec else "copied", scaled(_bytes(there), "B")
        role = "learned" if is_trainable(path, plan.config) else "frozen"
        rows.append((path, "x".join(map(str, leaf.shape)), dtype, layout, size, role))
    absent = ["absent: frozen, and its outputs are computed beforehand"] if len(held) < len(whole) else []
    return [*table(rows, "<><<><"), *absent]


def _bytes(tree) -> int:
    """Bytes on each device: of its share where there is a sharding, of the whole where there is none."""

    def shape(x):
        return x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)

    return sum(math.prod(shape(x)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def scaled(number: float, unit: str) -> str:
    """Four digits and a decimal prefix: 1234567 B -> "1.235 MB"."""
    power = min(len(str(int(number))) - 1, 15) // 3
    digits = f"{number / 1000**power:#.4g}".rstrip(".") if power else f"{number:.0f}"
    return f"{digits} {' kMGTP'[power].strip()}{unit}"


def table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Rows as lines, each column as wide as its widest cell, aligned "<" or ">"."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    return ["  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, align, widths)).rstrip() for row in rows]
