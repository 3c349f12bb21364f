"""Acting: the image encoder, one action from images and an instruction, the head alone, the first action of a process.

Work is the same for everybody: DINOv2-L on 224 px, two views, an instruction, a chunk of 16 actions. The original's
``generate`` goes through its encoders as often as it goes through them; the row "original, one pass" is what its modules
could do at best.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.aot.flops import flops
from drifting_vla_jax.benchmarks import first_action, network
from drifting_vla_jax.benchmarks.ddpm import ddpm_sample
from drifting_vla_jax.benchmarks.machine import matrix_product, peak_share
from drifting_vla_jax.benchmarks.options import Options
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.benchmarks.results import Report, goal, milliseconds
from drifting_vla_jax.benchmarks.timing import Case, Comparison, compiled, contest, of_peer, timed
from drifting_vla_jax.models.vla import DriftingVLA, make_vision
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.types import ModelObservation, views

DTYPES = {"float32": "fp32", "bfloat16": "bf16"}
IMAGES = 4  # in the encoder's batch
DDPM_STEPS = 100


def run(options: Options, peers: Peers) -> Report:
    """Every table of acting; see the module's docstring."""
    config, rounds = options.config, options.rounds or 7
    report, few = Report(), max(2, rounds // 3)
    encoders = {dtype: encoder(config, peers, dtype, rounds if dtype == "float32" else few) for dtype in DTYPES}
    peers.stop("torch-encoders")
    actions, calls = one_action(config, peers, rounds, few)
    peers.stop("original")
    head = heads(config, rounds)
    report.contests += [(encoders[d], f"ours, {name}") for d, name in DTYPES.items()]
    report.contests += [(c, "ours, fp32") for c in actions] + [(head, "drifting, 1 evaluation")]
    report.figures["One action after another, text remembered"] = calls
    report.figures["The first action of a process, seconds"] = first_action.stages(config)
    report.goals = _goals(encoders, actions, head)
    return report


def encoder(config: ConfigDict, peers: Peers, dtype: str, rounds: int) -> Comparison:
    """The image encoder on a few images, beside the same network in PyTorch and beside matrix products of that dtype."""
    config, name = network.at_precision(config, dtype), DTYPES[dtype]
    params = {"params": network.params_of(config)["vision"]}
    size = config.env.image_size
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    apply = make_vision(config).apply
    more = {"flops": flops(apply, params, images), "samples": IMAGES}
    ours = compiled(f"ours, {name}", apply, (params, jax.device_put(images)), **more)
    torch = of_peer(
        peers, "torch-encoders", f"torch, {name}", "image", samples=IMAGES, dtype=dtype, batch=IMAGES, size=size
    )
    title = f"Image encoder {config.model.vision.name}, {size} px, {IMAGES} images, {dtype}"
    return contest(title, [matrix_product(dtype), ours, torch], rounds)


def one_action(config: ConfigDict, peers: Peers, rounds: int, few: int) -> tuple[list[Comparison], list[list[str]]]:
    """One observation in, one chunk out: in float32 beside everybody, then in bfloat16; and our own p50 and p95."""
    full = network.at_precision(config, "float32")
    params = network.params_of(full)
    act = _policy_call(full, params, "ours, fp32")
    parts = [_vision_alone(full, params), _head_alone(full, params)]
    title = f"One action from images and an instruction, {config.name}, {views(config)} views, float32"
    first = contest(title, [act, _new_instruction(full, params), *parts, *_original(peers, "float32")], rounds)
    calls = [["", "calls", "p50 ms", "p95 ms"], _percentiles(act, 4 * rounds)]
    half = network.at_precision(config, "bfloat16")
    params = network.params_of(half)
    ours = [act, _policy_call(half, params, "ours, bf16")]
    ours[1].run()  # compiles; everybody else is warm
    second = contest(f"The same in bfloat16 ({config.name})", [*ours, *_original(peers, "bfloat16")], few, warmup=0)
    return [first, second], calls


def _original(peers: Peers, dtype: str) -> list:
    name = DTYPES[dtype]
    routes = {"hub": "its default route", "hf": "its fallback route"}
    rows = [
        of_peer(
            peers, "original", f"original generate, {route}, {name}", "generate", dtype=dtype, route=route, note=note
        )
        for route, note in routes.items()
    ]
    return [*rows, of_peer(peers, "original", f"original, one pass, {name}", "one pass", dtype=dtype)]


def _policy_call(config: ConfigDict, params: dict, name: str) -> Case:
    """A request as the server hands it to the policy; poses out."""
    policy, request = network.policy_of(config, params), network.observation_of(config)
    return Case(name, timed(lambda: policy.infer([request])))


def _new_instruction(config: ConfigDict, params: dict) -> Case:
    """The same with an instruction never heard before."""
    policy, request, number = network.policy_of(config, params), network.observation_of(config), itertools.count()

    def call():
        return policy.infer([request | {"prompt": f"{network.PROMPT} {next(number)}"}])

    return Case("ours, a new instruction", timed(call), note="encodes the text first")


def _vision_alone(config: ConfigDict, params: dict) -> Case:
    apply, size = make_vision(config).apply, config.env.image_size
    images, weights = jnp.zeros((views(config), size, size, 3), jnp.uint8), {"params": params["vision"]}
    return compiled("of which the image encoder", apply, (weights, images), flops=flops(apply, weights, images))


def _head_alone(config: ConfigDict, params: dict) -> Case:
    act, args = _head(config, params)
    return compiled("of which everything after the encoders", act, args, flops=flops(act, *args))


def _head(config: ConfigDict, params: dict, sample=None):
    """(function, arguments): chunks from what the encoders say, by the objective's sampler or another."""
    model, seen = DriftingVLA(config), network.encoded_of(config, 1)
    rest = {name: part for name, part in params.items() if name not in ("vision", "text")}
    state, prompt = jnp.zeros((1, config.env.state_dim)), jnp.zeros(1, jnp.int32)
    noise = jnp.ones((1, 1, config.action.horizon, config.model.noise_dim))
    sample = sample or make_objective(config).sample

    def act(params, seen, noise):
        observation = ModelObservation(images=None, state=state, prompt=prompt, **seen)
        context = model.apply({"params": params}, observation, method=model.encode)

        def generate(noise, time):
            return model.apply({"params": params}, context, noise, time, method=model.generate)

        return sample(generate, noise)

    return act, (rest, seen, noise)


def heads(config: ConfigDict, rounds: int) -> Comparison:
    """Everything after the encoders: one drifting evaluation, flow matching's Euler steps, ancestral DDPM steps.

    The network is the same for all, with noise as wide as an action, as flow matching needs it.
    """
    config = network.at_precision(config, "float32", model__noise_dim=10)
    flow = network.at_precision(config, "float32", model__noise_dim=10, objective__name="flow_matching")
    params = network.params_of(config)
    ways = {
        "drifting, 1 evaluation": (config, None),
        f"flow matching, {make_objective(flow).evaluations_per_chunk} steps": (flow, None),
        f"DDPM, {DDPM_STEPS} steps": (config, lambda generate, noise: ddpm_sample(generate, noise, DDPM_STEPS)),
    }
    rows = []
    for name, (of, sample) in ways.items():
        act, args = _head(of, params, sample)
        rows.append(compiled(name, act, args, flops=flops(act, *args)))
    return contest("From the encoders' outputs to a chunk: our network, three ways to sample, float32", rows, rounds)


def _percentiles(act: Case, count: int) -> list[str]:
    seconds = np.array([act.run() for _ in range(count)])
    return [act.name, str(count), *(milliseconds(np.percentile(seconds, q)) for q in (50, 95))]


def _goals(encoders: dict[str, Comparison], actions: list[Comparison], head: Comparison) -> list:
    full, first = encoders["float32"], actions[0]

    def over(contest, ours, other):
        return lambda: contest[ours].speedup_over(contest[other])

    def best_over_best():
        """Medians, since the dtypes ran in two contests: the fastest of ours over the fastest of generate()."""
        rows = [row for c in actions for row in c.rows]
        theirs = [row.median_s for row in rows if row.name.startswith("original generate, hub")]
        if not theirs:
            raise KeyError(str(first.absent[0].reason if first.absent else "not measured"))
        return min(theirs) / min(row.median_s for row in rows if row.name in ("ours, fp32", "ours, bf16"))

    shares = [peak_share(full["ours, fp32"], row) for row in full.rows if row.flops and row.name != "ours, fp32"]
    flow, ddpm = (row.name for row in head.rows[1:])
    return [
        goal("encoder over torch, fp32", 1.0, over(full, "ours, fp32", "torch, fp32")),
        goal("encoder over torch, bf16", 1.0, over(encoders["bfloat16"], "ours, bf16", "torch, bf16")),
        goal("encoder's share of the matrix product's speed, fp32", 0.8, lambda: shares[0]),
        goal(
            "one action over generate(), default route, fp32",
            6.0,
            over(first, "ours, fp32", "original generate, hub, fp32"),
        ),
        goal(
            "one action over generate(), fallback route, fp32",
            6.0,
            over(first, "ours, fp32", "original generate, hf, fp32"),
        ),
        goal("one action over generate(), best dtype of each", 2.5, best_over_best),
        goal("one drifting evaluation over 10 flow steps", 8.0, over(head, "drifting, 1 evaluation", flow)),
        goal("one drifting evaluation over 100 DDPM steps", 8.0, over(head, "drifting, 1 evaluation", ddpm)),
    ]
