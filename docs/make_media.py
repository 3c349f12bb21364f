"""The pictures of README and docs/, made from a run of the quickstart and from the package's own drifting field.

WORKDIR=runs/media bash launch/quickstart.sh
python docs/make_media.py --workdir=runs/media [--only=rollouts,field,page]

docs/assets/rollouts.gif         four episodes of one checkpoint, from the evaluation's videos
docs/assets/drifting_field.gif   samples carried by V of Algorithm 2 onto two modes, 3 s
docs/assets/quickstart.png       the run's page; needs chromium
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import flags
from matplotlib import pyplot as plt
from PIL import Image

from drifting_vla_jax.core import cli
from drifting_vla_jax.objectives.drifting.loss import drifting_field

FLAGS = flags.FLAGS
ASSETS = Path(__file__).resolve().parent / "assets"
TASKS = ("door-open", "drawer-open", "window-open", "button-press-topdown")
FPS = 12.5

SAMPLES, DATA, FRAMES, STEPS = 128, 256, 60, 4  # per frame of the field: so many steps of the samples
TEMPERATURES = (0.3, 1.0, 3.0)


def frames_of(video: Path, width: int) -> list[Image.Image]:
    """Frames of a video, ``FPS`` a second."""
    reader = imageio_ffmpeg.read_frames(str(video), output_params=["-vf", f"fps={FPS}"])
    size = next(reader)["size"]
    height = round(width * size[1] / size[0])
    return [Image.frombytes("RGB", size, frame).resize((width, height), Image.Resampling.LANCZOS) for frame in reader]


def write_gif(path: Path, frames: list[Image.Image], fps: float, colors: int) -> None:
    """A GIF that loops. All frames share one palette, without dithering: still parts then cost nothing."""
    step = max(1, len(frames) // 8)
    some = np.concatenate([np.asarray(frame) for frame in frames[::step]])
    palette = Image.fromarray(some).quantize(colors, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    same = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    same[0].save(path, save_all=True, append_images=same[1:], duration=round(1000 / fps), loop=0, optimize=True)
    print(f"{path}  {path.stat().st_size / 1e6:.2f} MB, {len(frames)} frames of {frames[0].size}")


def rollouts(workdir: Path) -> None:
    """One episode of each of ``TASKS``, side by side; who is done first waits."""
    films = []
    for task in TASKS:
        found = sorted(workdir.glob(f"eval/*/videos/{task}-*.mp4"))
        if not found:
            raise FileNotFoundError(f"no video of {task} in {workdir}/eval; evaluate with --config.eval.videos=1")
        films.append(frames_of(found[0], 240))
    length = max(len(film) for film in films) + int(FPS / 2)
    films = [film + film[-1:] * (length - len(film)) for film in films]
    strips = [Image.fromarray(np.concatenate([np.asarray(f) for f in row], axis=1)) for row in zip(*films, strict=True)]
    write_gif(ASSETS / "rollouts.gif", strips, FPS, 224)


def carried() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples over time [frame, n, 2], the field there [frame, n, 2], and the data [m, 2] of two modes."""
    rng = np.random.default_rng(0)
    side = np.where(rng.random((DATA, 1)) < 0.5, -2.0, 2.0)
    data = np.concatenate([side, np.zeros_like(side)], 1) + 0.28 * rng.standard_normal((DATA, 2))
    x = jnp.asarray(np.array([0.0, 1.9]) + 0.3 * rng.standard_normal((SAMPLES, 2)))

    @jax.jit
    def field(x):
        total = 0.0
        for (
            tau
        ) in TEMPERATURES:  # each scaled to size one while the samples are far, as in training, and left small near
            v = drifting_field(x[None], jnp.asarray(data)[None], x[None], tau, mask_self=True)[0]
            total += v / jnp.maximum(jnp.sqrt(jnp.mean(jnp.sum(v**2, -1))), 0.05)
        return total

    places, arrows = [], []
    for _ in range(FRAMES):
        v = field(x)
        places.append(np.asarray(x))
        arrows.append(np.asarray(v))
        for _ in range(STEPS):
            x = x + 0.008 * field(x)
    return np.stack(places), np.stack(arrows), data


def field(workdir: Path) -> None:
    """The field as a film: data, samples, and an arrow per sample."""
    matplotlib.use("Agg")
    places, arrows, data = carried()
    frames = []
    for number, (x, v) in enumerate(zip(places, arrows, strict=True)):
        figure, axes = plt.subplots(figsize=(7.2, 3.6), dpi=100)
        axes.scatter(*data.T, s=22, marker="D", color="#9aa7b5", linewidths=0, label="expert actions")
        for earlier in range(max(0, number - 8), number):
            axes.plot(
                *np.stack([places[earlier], places[earlier + 1]]).transpose(2, 0, 1), color="#e4722a", alpha=0.13, lw=1
            )
        axes.quiver(*x.T, *v.T, color="#1f5fa8", angles="xy", scale_units="xy", scale=6, width=0.0022, alpha=0.8)
        axes.scatter(*x.T, s=18, color="#e4722a", linewidths=0, zorder=3, label="samples of the policy")
        axes.set(xlim=(-3.4, 3.4), ylim=(-1.1, 2.7), aspect="equal", xticks=[], yticks=[])
        axes.legend(loc="upper right", frameon=False, fontsize=10)
        axes.text(-3.3, 2.45, "the drifting field V", fontsize=11, color="#1f5fa8", va="center")
        for spine in axes.spines.values():
            spine.set_color("#d0d5da")
        figure.tight_layout(pad=0.3)
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()))
        plt.close(figure)
    write_gif(ASSETS / "drifting_field.gif", frames, FRAMES / 3, 48)


def page(workdir: Path) -> None:
    """The top of the run's page, as the quickstart ends with it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise RuntimeError("no chromium; on Debian: apt-get install -y chromium")
    with tempfile.TemporaryDirectory() as profile:
        options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars --disable-sync"
        subprocess.run(
            [browser, *options.split(), "--disable-background-networking", "--disable-component-update",
             f"--user-data-dir={profile}", "--window-size=1180,1000", "--virtual-time-budget=8000",
             f"--screenshot={profile}/page.png", (workdir / "report" / "index.html").resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        shot = Image.open(f"{profile}/page.png").convert("RGB")
        shot.quantize(192).save(ASSETS / "quickstart.png", optimize=True)
    print(f"{ASSETS / 'quickstart.png'}  {(ASSETS / 'quickstart.png').stat().st_size / 1e6:.2f} MB")


PICTURES: dict[str, Callable[[Path], None]] = {"rollouts": rollouts, "field": field, "page": page}


def main(_) -> None:
    for name in FLAGS.only:
        PICTURES[name](Path(FLAGS.workdir))


if __name__ == "__main__":
    cli.define_path("workdir", None, "a run of the quickstart, with videos", required=True)
    flags.DEFINE_multi_enum("only", list(PICTURES), list(PICTURES), "which pictures", short_name=None)
    cli.run(main)
