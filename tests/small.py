"""A configuration of a few thousand parameters and a data set of a few dozen steps, with every part of the real ones."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from drifting_vla_jax.core.episode import Episode, encode_png
from drifting_vla_jax.data import tfds_writer
from drifting_vla_jax.models.encoders.clip_text import ClipTextArchitecture
from drifting_vla_jax.models.encoders.dinov2 import DinoArchitecture
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.train.state import init_params

TASKS = ("reach-red", "reach-blue")
CAMERAS = ("front", "side")
SIZE = 16
PARAPHRASES = ("go to the {} ball", "reach {}", "touch the {} one", "find {}")


def small_config():
    """16 px images, 8-token chunks of 4 steps, one layer everywhere, no WandB, no report, no figures."""
    config = base.get_config()
    config.name = "small"
    config.env.name, config.env.tasks, config.env.cameras = "dummy", TASKS, CAMERAS
    config.env.image_size = SIZE
    config.data.batch_size, config.data.num_threads, config.data.shift = 8, 1, 1
    config.data.max_tokens = 32
    config.action.horizon, config.eval.execute, config.eval.video_camera = 4, 2, ""
    m = config.model
    m.width = m.vision.width = m.text.width = 16
    m.vision.patch, m.vision.depth, m.text.depth, m.fusion.depth, m.dit.depth = 8, 1, 1, 1, 1
    m.vision.heads = m.text.heads = m.fusion.heads = m.dit.heads = 2
    config.objective.drifting.samples = config.objective.flow_matching.samples = 4
    t = config.train
    t.steps, t.warmup_steps, t.log_every, t.eval_every, t.eval_batches, t.save_every = 6, 2, 1, 3, 1, 3
    t.wandb, t.report_every = "off", 0
    for name in set(config.figures) - {"theme"}:
        config.figures[name] = 0
    return config


def small_encoders(out: Path) -> dict[str, str]:
    """A DINOv2 and a CLIP text encoder of two thin layers with random weights, as ``models.pretrained`` writes them."""
    dino = DinoArchitecture(16, 2, 2, 32, "gelu", patch=4, grid=3)
    clip = ClipTextArchitecture(16, 2, 2, 32, vocabulary=514, length=32, end=513)
    rng = np.random.default_rng(0)
    for part, architecture in (("vision", dino), ("text", clip)):
        shapes = pretrained.shapes(architecture)
        params = {path: 0.3 * rng.standard_normal(shape, np.float32) for path, shape in shapes.items()}
        encoder = pretrained.Encoder(
            "a test", architecture, params, pretrained.weights_hash(architecture, params), None
        )
        pretrained.write(encoder, out / part)
    return {part: str(out / part) for part in ("vision", "text")}


def with_encoders(config, encoders: dict[str, str]):
    """The configuration with frozen pretrained encoders in place of those trained from scratch."""
    config.model.vision.name, config.model.text.name = encoders["vision"], encoders["text"]
    config.train.freeze = ("vision", "text")
    return config


def episode(index: int, steps: int = 12, seed: int = 0) -> Episode:
    """A straight walk, painted into the images; the wrist never turns, the gripper closes half way."""
    rng = np.random.default_rng((seed, index))
    start, goal = rng.uniform(-0.3, 0.3, (2, 3)) + [0, 0.6, 0.2]
    path = start + np.linspace(0, 1, steps + 1)[:, None] * (goal - start)
    state = np.concatenate([path[:-1], np.linspace(1, 0, steps)[:, None]], axis=1).astype(np.float32)
    quaternion = np.tile([0.0, 0.5**0.5, 0.0, 0.5**0.5], (steps, 1))
    gripper = (np.arange(steps) < steps // 2)[:, None]
    actions = np.concatenate([path[1:], quaternion, gripper], axis=1).astype(np.float32)

    def frame(position, camera):
        image = np.full((SIZE, SIZE, 3), 40 + 20 * CAMERAS.index(camera), np.uint8)
        x, y = ((position[:2] - [-0.3, 0.3]) / 0.6 * (SIZE - 1)).astype(int)
        image[y, x] = 255
        return encode_png(image)

    task = TASKS[index % 2]
    colour = task.split("-")[1]
    return Episode(
        task=task,
        variation=0,
        seed=index,
        instructions=tuple(text.format(colour) for text in PARAPHRASES),
        images={camera: [frame(p, camera) for p in path[:-1]] for camera in CAMERAS},
        state=state,
        actions=actions,
        keyframes=(2, 4, steps // 2, steps - 1),
    )


def apart(function, *args):
    """Calls it in a process of its own: TensorFlow crashes on being loaded after some of what tests load."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def write_dataset(out: Path, episodes: int = 8) -> Path:
    """Six episodes to train on and two to validate on."""
    return write_episodes(out, [episode(index) for index in range(episodes)])


def write_episodes(
    out: Path,
    episodes: list[Episode],
    control_hz: float = 20.0,
    state_names=("x", "y", "z", "gripper"),
    held_out: int = 2,
) -> Path:
    """A data set of all but the last two to train on and those to validate on, or of all to train on (``held_out`` 0)."""
    out.mkdir(exist_ok=True)
    paths = [out / f"{index}.npz" for index in range(len(episodes))]
    for path, each in zip(paths, episodes):
        each.save(path)
    views, layout = tuple(episodes[0].images), episodes[0].layout
    about = tfds_writer.About("test", views, SIZE, tuple(state_names), control_hz, {}, layout)
    tfds_writer.write(out, {"train": paths[: len(paths) - held_out], "val": paths[len(paths) - held_out :]}, about)
    return out


SETS = {"both": CAMERAS, "front": CAMERAS[:1], "side": CAMERAS[1:]}  # of a mixture: their names and what they see
MIXED_TASKS = (*TASKS, "lift-green")


def write_sets(out: Path) -> dict[str, Path]:
    """Three data sets that differ: in their views, in how far apart things are, in words; the last in its task and rate.

    Of "both" 48 steps are to train on, of "front" 72, of "side" 24; of each two episodes to validate on.
    """

    def changed(name, index, metres):
        each = episode(index, seed=list(SETS).index(name))
        state, actions = each.state.copy(), each.actions.copy()
        state[:, :3] *= metres
        actions[:, :3] *= metres
        task = MIXED_TASKS[2] if name == "side" else each.task
        words = (
            ("lift the green ball", "lift it") if name == "side" else [f"{text}, {name}" for text in each.instructions]
        )
        images = {camera: each.images[camera] for camera in SETS[name]}
        return replace(each, task=task, instructions=tuple(words), images=images, state=state, actions=actions)

    def write(name, count, metres, rate):
        return write_episodes(out / name, [changed(name, index, metres) for index in range(count)], rate)

    return {
        "both": write("both", 6, 1.0, 20.0),
        "front": write("front", 8, 3.0, 20.0),
        "side": write("side", 4, 0.2, 10.0),
    }


def random_params(config, seed: int = 0) -> dict:
    """Parameters of the right shapes, all of them at work (no zero modulation), without compiling an initialisation."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "scale":
            return jnp.asarray(1 + 0.1 * values)
        return jnp.asarray(values * leaf.shape[0] ** -0.5 if leaf.ndim > 1 else 0.1 * values)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: init_params(config, jax.random.key(0))))


def equations(closed_jaxpr):
    """Every equation of a jaxpr, those of inner jaxprs included."""
    for equation in closed_jaxpr.jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "jaxpr"):
                yield from equations(value)
            elif hasattr(value, "eqns"):
                yield from equations(SimpleNamespace(jaxpr=value))
