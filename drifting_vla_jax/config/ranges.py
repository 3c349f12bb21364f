"""What every key of ``configs/base.py`` may be by itself. What keys must be to each other is in ``checks.py``.

Bounds are generous: they refuse what can only be a slip (a negative rate, NaN, a share above 1), not what is unwise.
"""

from __future__ import annotations

from drifting_vla_jax.core import settings
from drifting_vla_jax.core.action_layout import LAYOUTS
from drifting_vla_jax.core.ranges import (
    COUNT,
    FRAME_SKIP,
    PIXELS,
    PORT,
    SECONDS,
    SEED,
    Choice,
    Flag,
    Many,
    Name,
    Number,
    Text,
    whole,
)
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout.settings import EvaluationSettings
from drifting_vla_jax.types import FRAMES, OPTIMIZERS, REMAT, SELECTION_RULES

DTYPES = ("float32", "bfloat16")
THEMES = ("light", "dark", "paper", "presentation")  # of figures: figures/style.py
PARTS = ("vision", "text", "fusion", "dit", "decoder")  # of the network, that can be frozen

STEPS = whole(1, 10**9)
EVERY = whole(0, 10**9)  # steps between two; 0: never
NO_PIXELS = whole(0, PIXELS.high)
WIDTH = whole(1, 65536)
DEPTH = whole(0, 1000)
HEADS = whole(1, 1024)
RANK = whole(0, 4096)
AXIS = whole(1, 2**20, also=(-1,))
SHARE = Number(0.0, 1.0)
DECAY = Number(0.0, 1.0, "[)")
FLAG, NAME, TEXT, MAYBE = Flag(), Name(), Text(), Text(empty=True)

_OWN = {"name": TEXT, "seed": SEED, "profile": EVERY}
_ENV = {
    "name": NAME,
    "tasks": Many(NAME, least=1),
    "cameras": Many(NAME, least=1),
    "image_size": PIXELS,
    "state_dim": WIDTH,
    "frame_skip": FRAME_SKIP,
    **{
        f"{name}.{key}": row
        for name in registry.ENVIRONMENTS
        if (own := registry.settings_class(name))
        for key, row in settings.rows(own).items()
    },
}
_DATA = {
    "path": TEXT,
    "mixture.paths": Many(TEXT),
    "mixture.weights": Many(Number(0.0, 1e9, "(]"), repeats=True),
    "batch_size": COUNT,
    "max_tokens": whole(1, 65536),
    "num_threads": whole(0, 4096),
    "prefetch": whole(1, 1024),
    "cache_mb": whole(0, 10**8),
    "shift": NO_PIXELS,
    "brightness": SHARE,
    "contrast": SHARE,
    "features": FLAG,
    "state_noise": Number(0.0, 10.0),
}
_ACTION = {
    "layout": Choice(LAYOUTS),
    "joints": Many(NAME, repeats=True),  # repeats: core/action_layout.py tells them, joints and grippers together
    "grippers": Many(NAME, repeats=True),
    "horizon": whole(1, 4096),
    "stride": whole(1, 10_000),
    "keyframes": FLAG,
    "frame": Choice(FRAMES),
}
_MODEL = {
    **dict.fromkeys(("width", "readout", "noise_dim"), WIDTH),
    **dict.fromkeys(("dtype", "frozen_dtype"), Choice(DTYPES)),
    **dict.fromkeys(("proprioception", "scan_layers"), FLAG),
    "history": whole(0, 1000),
    "history_stride": whole(1, 10_000),
    "remat": Choice(REMAT),
    "vision.image_size": NO_PIXELS,
    "vision.pool": whole(1, 256),
    "vision.patch": PIXELS,
    "vision.stem": Choice(("conv", "patch")),
    **{f"{part}.name": TEXT for part in ("vision", "text")},
    **{f"{part}.lora": RANK for part in ("vision", "text")},
    **{f"{part}.width": WIDTH for part in ("vision", "text")},
    **{f"{part}.depth": DEPTH for part in ("vision", "text", "fusion", "dit")},
    **{f"{part}.heads": HEADS for part in ("vision", "text", "fusion", "dit")},
    "mlp_ratio": Number(0.0, 100.0, "(]"),
}
_TRAIN = {
    **dict.fromkeys(("steps", "log_every", "eval_every", "eval_batches", "save_every"), STEPS),
    **dict.fromkeys(("warmup_steps", "rollout_every", "report_every"), EVERY),
    **dict.fromkeys(("metrics", "figures"), Many(TEXT)),
    "optimizer": Choice(OPTIMIZERS),
    "learning_rate": Number(0.0, 1.0, "(]"),
    "final_lr_fraction": SHARE,
    "micro_batches": COUNT,
    "freeze": Many(Choice(PARTS)),
    **dict.fromkeys(("lr_scale.vision", "lr_scale.text"), Number(0.0, 100.0)),
    "weight_decay": Number(0.0, 10.0),
    **dict.fromkeys(("b1", "b2", "ema_decay"), DECAY),
    "clip_norm": Number(0.0, 1e12, "(]"),
    "rollout_episodes": COUNT,
    "keep": COUNT,
    "wandb": Choice(("auto", "off")),
    "wandb_project": TEXT,
    "tensorboard": FLAG,
}
_MESH = {
    **dict.fromkeys(("data", "fsdp", "tensor"), AXIS),
    "fsdp_min_size": whole(0, 2**62),
    "split_frozen": FLAG,
}
_SERVE = {
    "host": TEXT,
    "port": PORT,
    "batch_sizes": Many(whole(1, 65536), least=1, repeats=True),
    "batch_deadline_ms": Number(0.0, 60_000.0),
    "num_samples": whole(1, 65536),
    "choose": Choice(SELECTION_RULES),
    **dict.fromkeys(("dataset", "api_key", "tls_certificate", "tls_key"), MAYBE),
    "compile_cache": FLAG,
    **dict.fromkeys(("text_cache", "max_connections", "max_queue"), COUNT),
    "idle_seconds": SECONDS,
}
SECTIONS = {
    "env": _ENV,
    "data": _DATA,
    "action": _ACTION,
    "model": _MODEL,
    "objective": {"name": TEXT},  # its settings: the objectives' own
    "train": _TRAIN,
    "figures": {"theme": Choice(THEMES)},  # the other keys are figures: EVERY
    "mesh": _MESH,
    "eval": settings.rows(EvaluationSettings),
    "serve": _SERVE,
}


def row_of(key: str):
    """The row of a key, for example of "train.learning_rate"; None: no such key is declared."""
    section, _, rest = key.partition(".")
    if section == "figures" and rest != "theme":
        return EVERY
    return SECTIONS.get(section, {}).get(rest) if rest else _OWN.get(section)
