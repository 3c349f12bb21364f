"""``--mode=compile``: the train step and the policy call of a configuration, compiled for hardware that is not there.

What XLA answers is what a run would get: memory of each device against what the device has, messages between devices,
operations; all of it from the optimised programs. Nothing runs, and of the network no array is made.

Of memory, arguments are what is there before and after (state, batch, borrowed weights), temporaries what the call needs in
between; the peak is the most there is at once. It must be smaller than the device: a TPU's compiler refuses what is not,
CUDA's does not, so that it is compared here. Batches fetched ahead and the runtime itself come on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from drifting_vla_jax.aot import topology
from drifting_vla_jax.aot.describe import Plan, make_plan, scaled, table
from drifting_vla_jax.aot.flops import flops
from drifting_vla_jax.aot.hlo import COLLECTIVES, Program
from drifting_vla_jax.aot.topology import GIB, Topology
from drifting_vla_jax.policy.sampling import predict_actions
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.partition import is_frozen_pretrained, merge, split
from drifting_vla_jax.train.step import compile_train_step


class DoesNotFitError(ValueError):
    """A program needs more memory than a device has."""


@dataclass(frozen=True)
class Compiled:
    """One program on one device, in bytes, floating point operations and seconds.

    Attributes:
      name: "train step" or "policy call".
      observations: on each device.
      arguments, temporaries, peak: of memory, see above.
      flops: of matrix products and convolutions, counted in the compiled program.
      traced: the same counted in what was asked of the compiler, its share of one device; less than ``flops`` if devices
        do the same work twice.
      collectives: bytes by kind, see ``hlo``.
      seconds: of the compiler.
    """

    name: str
    observations: int
    arguments: int
    temporaries: int
    peak: int
    flops: int
    traced: float
    collectives: dict[str, float]
    seconds: float


def compile_report(config: ConfigDict, where: str) -> str:
    """The text of ``--mode=compile --topology=where``; ``topology.prepare`` comes first.

    Raises:
      DoesNotFitError: a device has less memory than a program needs.
    """
    target = topology.parse(where)
    found = topology.devices(target)
    mesh, alone = sharding.make_mesh(config, found), sharding.single_device_mesh(found[0])
    programs = []
    for make, devices in (compile_step, mesh), (compile_policy, alone):
        programs.append(make(config, devices))
        check_fits(programs[-1], target)
    sizes = " x ".join(f"{size} {name}" for name, size in mesh.shape.items())
    title = f"{config.name} on {where}: {mesh.size} x {found[0].device_kind}, mesh {sizes}"
    return "\n".join([title, "", *table(_rows(programs, target), "<" + ">" * len(programs))])


def check_fits(program: Compiled, target: Topology) -> None:
    """Raises DoesNotFitError if a device has less memory than the program needs."""
    if program.peak > target.memory:
        raise DoesNotFitError(
            f"the {program.name} does not fit: with {program.observations} observations it needs "
            f"{program.peak / GIB:.2f} GiB on each device, {target.kind} has {target.memory / GIB:.2f}"
        )


def compile_step(config: ConfigDict, mesh: Mesh) -> Compiled:
    """The train step over a mesh, as ``train.loop`` calls it."""
    plan = make_plan(config, mesh)
    step = compile_train_step(config, mesh)
    share = config.data.batch_size // (mesh.shape[sharding.DATA] * mesh.shape[sharding.FSDP])
    return _compile("train step", share, mesh, step, plan.state, plan.batch, plan.borrowed)


def compile_policy(config: ConfigDict, mesh: Mesh) -> Compiled:
    """The call of a policy on one device, for the largest of ``config.serve.batch_sizes``."""
    plan, size = make_plan(config, mesh), max(config.serve.batch_sizes)

    def act(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return predict_actions(*args, config=config, samples=config.serve.num_samples, choose=config.serve.choose)

    shapes = _asked(plan, size)
    return _compile("policy call", size, mesh, jax.jit(act, in_shardings=sharding.replicated(mesh)), *shapes)


def _asked(plan: Plan, size: int) -> tuple:
    """Shapes of parameters, images, state, encoded instructions and seeds, as ``policy.Policy`` passes them."""
    frozen, learned = split(plan.params, lambda path: is_frozen_pretrained(path, plan.config))
    dtype = jnp.dtype(plan.config.model.frozen_dtype)
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), frozen)
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), plan.asked)
    seeds = jax.ShapeDtypeStruct((size,), jnp.uint32)
    return merge(learned, frozen), many.images, many.state, many.text, seeds


def _compile(name: str, observations: int, mesh: Mesh, function: Callable, *shapes) -> Compiled:
    lowered = function.lower(*shapes)
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFitError(
            f"the {name} does not fit with {observations} observations on each device: {str(error).splitlines()[0]}"
        ) from None
    seconds = time.perf_counter() - start
    memory, program = compiled.memory_analysis(), Program(_text(compiled))
    return Compiled(
        name=name,
        observations=observations,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        flops=program.flops(),
        traced=flops(function, *shapes) / mesh.size,
        collectives=program.collectives(),
        seconds=seconds,
    )


def _text(compiled: jax.stages.Compiled) -> str:
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError as error:  # libtpu 0.0.52 for v6e, of some programs with overlapped messages
        advice = "compiled, but the compiler does not hand the program out; try JAX_OPTIMIZATION_LEVEL=O1"
        raise RuntimeError(f"{advice} ({str(error).splitlines()[0]})") from None


def _rows(programs: Sequence[Compiled], target: Topology) -> list[tuple[str, ...]]:
    """A line per quantity, a column per program."""

    def row(name: str, show: Callable[[Compiled], str]) -> tuple[str, ...]:
        return (name, *(show(program) for program in programs))

    kinds = [kind for kind in COLLECTIVES if any(kind in program.collectives for program in programs)]
    return [
        row("each device", lambda p: p.name),
        row("observations", lambda p: f"{p.observations}"),
        row("arguments", lambda p: f"{p.arguments / GIB:.3f} GiB"),
        row("temporaries", lambda p: f"{p.temporaries / GIB:.3f} GiB"),
        row(f"peak memory, of {target.memory / GIB:.2f} GiB", lambda p: f"{p.peak / GIB:.3f} GiB"),
        row("matrix products, as compiled", lambda p: scaled(p.flops, "FLOP")),
        row("matrix products, as written", lambda p: scaled(p.traced, "FLOP")),
        *(row(kind, lambda p, kind=kind: scaled(p.collectives.get(kind, 0), "B")) for kind in kinds),
        row("all collectives", lambda p: scaled(sum(p.collectives.values()), "B")),
        row("time to compile", lambda p: f"{p.seconds:.1f} s"),
    ]
