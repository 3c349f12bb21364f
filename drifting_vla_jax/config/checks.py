"""What the keys of a configuration must be to each other; what each may be by itself is in ``ranges.py``."""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from drifting_vla_jax.config.ranges import row_of
from drifting_vla_jax.core import ranges, settings
from drifting_vla_jax.core.action_layout import END_EFFECTOR, layout_of
from drifting_vla_jax.core.text import shown
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout.settings import EvaluationSettings
from drifting_vla_jax.types import is_mixture, set_names

LEAST_SHARE = 1e-4  # of a set in a mixture


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message says what came, what was expected, what to do."""


def validate(config: ConfigDict, exported: bool = False) -> None:
    """Checks what a type cannot say.

    Args:
      exported: check what an exported policy needs to act; that does not load the code of networks and objectives.

    Raises:
      ConfigError: with every problem found, one after the other.
    """
    problems = [*_range_problems(config), *(() if exported else _plugin_problems(config))]
    problems = problems or [
        problem for of_section in (ACTING if exported else SECTIONS) for problem in of_section(config)
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def _range_problems(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    """Keys that no row knows are of older checkpoints."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _range_problems(value, f"{prefix}{key}.")
        elif row := row_of(f"{prefix}{key}"):
            wrong = ranges.said(f"config.{prefix}{key}", value, row)
            if wrong:
                yield wrong


def _plugin_problems(config: ConfigDict) -> Iterator[str]:
    from drifting_vla_jax.objectives.registry import problems

    yield from problems(config)


def _env_problems(config: ConfigDict) -> Iterator[str]:
    env = config.env
    try:
        yield from registry.info(env.name).problems(env.frame_skip, env.state_dim)
        registry.read_options(env.name, env)
    except ValueError as error:  # there is no such simulator, or its own settings cannot be
        yield f"config.env: {error}"


def _data_problems(config: ConfigDict) -> Iterator[str]:
    shift, size, batch = config.data.shift, config.env.image_size, config.data.batch_size
    if shift >= size:
        yield f"config.data.shift is {shift}; expected less than the picture's config.env.image_size {size}"
    if batch % config.train.micro_batches:
        yield f"config.data.batch_size {batch} does not divide into config.train.micro_batches {config.train.micro_batches}"


def _mixture_problems(config: ConfigDict) -> Iterator[str]:
    names, weights = set_names(config), tuple(config.data.mixture.weights)
    if weights and len(weights) != len(names):
        yield (
            f"config.data.mixture.weights has {len(weights)} weights for {len(names)} paths; expected one each, or none: "
            "all alike"
        )
    for weight in weights:
        if weight < LEAST_SHARE * sum(weights):
            yield f"config.data.mixture.weights has {weight}, less than {LEAST_SHARE:g} of all; take that set out"
    for path, name in zip(config.data.mixture.paths, names):
        if name in ("", ".."):
            yield f"config.data.mixture.paths has {path!r}; sets go by the ends of their paths: write the folder's name"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"config.data.mixture.paths has two sets called {name!r}; rename a folder: sets go by the ends of their paths"
    if is_mixture(config) and config.serve.dataset not in ("", *names):
        yield f"config.serve.dataset is {config.serve.dataset!r}; expected {_either(names)}, or '' for the first"
    if is_mixture(config) and config.data.features:
        yield "config.data.features reads what was stored of one data set; leave config.data.mixture.paths empty"


def _action_problems(config: ConfigDict) -> Iterator[str]:
    if config.action.stride != 1 and config.action.keyframes:
        yield f"config.action.stride is {config.action.stride}, but keyframes come as they are; leave it at 1"


def _layout_problems(config: ConfigDict) -> Iterator[str]:
    try:
        layout = layout_of(config)
    except ValueError as error:
        yield str(error)
        return
    present, state = layout.present_dim, config.env.state_dim
    if state < present:
        yield (
            f"config.env.state_dim is {state}; with config.action.layout {config.action.layout} the state begins with the "
            f"{present} values that tell where things are now"
        )
    if layout != END_EFFECTOR and config.train.rollout_every:
        yield f"config.train.rollout_every is {config.train.rollout_every}, but simulators move one end effector; set it to 0"
    from drifting_vla_jax.objectives.registry import make_objective

    yield from make_objective(config).check()


def _model_problems(config: ConfigDict) -> Iterator[str]:
    m = config.model
    for name, width, heads in (
        ("vision", m.vision.width, m.vision.heads),
        ("text", m.text.width, m.text.heads),
        ("fusion", m.width, m.fusion.heads),
        ("dit", m.width, m.dit.heads),
    ):
        if width % (2 * heads):
            yield f"config.model.{name}: width {width} does not divide into {heads} even heads"
        if int(m.mlp_ratio * width * 2 / 3) < 8:  # models/layers.py: hidden widths come in eights
            yield f"config.model.mlp_ratio is {m.mlp_ratio:g}; of the {name} width {width} no MLP's hidden width is left"


def _encoder_problems(config: ConfigDict) -> Iterator[str]:
    """What is wrong with the encoders and what is to be trained of them."""
    from drifting_vla_jax.models.encoders.registry import encoder_class, is_frozen, is_pretrained

    m, v, freeze = config.model, config.model.vision, config.train.freeze
    for part in ("vision", "text"):
        rank = m[part].lora
        if rank and not (is_pretrained(config, part) and part in freeze):
            yield (
                f"config.model.{part}.lora is {rank}: adapters are for a pretrained encoder that is frozen; "
                f"name one in config.model.{part}.name and put {part!r} into config.train.freeze"
            )
    if config.data.features:
        if not is_frozen(config, "vision"):
            yield "config.data.features needs a frozen pretrained image encoder without adapters: its outputs are stored"
        moving = [key for key in ("shift", "brightness", "contrast") if config.data[key]]
        if moving:
            yield (
                f"config.data.{', '.join(moving)} change images, but config.data.features reads what was stored of "
                "unchanged ones; set them to 0"
            )
    if not is_pretrained(config, "vision") and (v.image_size or v.pool != 1):
        yield "config.model.vision.image_size and pool are for a pretrained encoder; leave them at 0 and 1"
    for part in ("vision", "text"):
        if not is_pretrained(config, part):
            try:
                yield from encoder_class(part, m[part].name).problems(m, config.env.image_size)
            except ValueError as error:  # there is no such encoder, or its own settings cannot be meant
                yield f"config.model.{part}: {error}"


def _train_problems(config: ConfigDict) -> Iterator[str]:
    t = config.train
    if t.warmup_steps >= t.steps:
        yield f"config.train.warmup_steps {t.warmup_steps} is not below config.train.steps {t.steps}"
    if t.rollout_every % t.save_every:
        yield (
            f"config.train.rollout_every is {t.rollout_every}; expected 0 or a multiple of config.train.save_every "
            f"{t.save_every}: a checkpoint is what is evaluated"
        )
    unfit = sorted(set(t.wandb_project) & set("/\\#?%:"))
    if t.wandb != "off" and (unfit or len(t.wandb_project) > 128):
        yield (
            f"config.train.wandb_project is {shown(repr(t.wandb_project), 160)}; WandB takes up to 128 characters and none of "
            "/ \\ # ? % :"
        )


def _mesh_problems(config: ConfigDict) -> Iterator[str]:
    axes = {key: config.mesh[key] for key in ("data", "fsdp", "tensor")}
    if list(axes.values()).count(-1) > 1:
        yield f"config.mesh has {axes}; one axis may be -1, what the others leave"


def _eval_problems(config: ConfigDict) -> Iterator[str]:
    execute, horizon = config.eval.execute, config.action.horizon
    if execute > horizon:
        yield f"config.eval.execute {execute} is more than the chunk has, config.action.horizon {horizon}"
    try:
        settings.read(EvaluationSettings, config.eval, "config.eval")
    except settings.SettingsError as error:
        yield str(error)


def _serve_problems(config: ConfigDict) -> Iterator[str]:
    s, sizes = config.serve, tuple(config.serve.batch_sizes)
    if s.choose == "nearest_mean" and s.num_samples < 3:
        yield (
            f"config.serve.choose is nearest_mean of {s.num_samples} samples; of fewer than 3 all are equally near, set "
            "config.serve.num_samples"
        )
    if sizes != tuple(sorted(set(sizes))):
        yield f"config.serve.batch_sizes is {sizes}; expected ascending sizes, e.g. (1, 2, 4)"
    if s.max_queue < max(sizes):
        yield f"config.serve.max_queue is {s.max_queue}; expected at least the largest batch size {sizes}"
    if not (s.api_key.isascii() and s.api_key.isprintable()):
        yield "config.serve.api_key has characters that no HTTP header carries; expected printable ASCII"


def _either(names) -> str:
    return " or ".join(names)


SECTIONS = (
    _env_problems,
    _data_problems,
    _mixture_problems,
    _action_problems,
    _layout_problems,
    _model_problems,
    _encoder_problems,
    _train_problems,
    _mesh_problems,
    _eval_problems,
    _serve_problems,
)
ACTING = (_env_problems, _eval_problems, _serve_problems)
