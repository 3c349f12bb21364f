"""The one command line.

    python -m drifting_vla_jax.main --config=configs/quickstart.py --workdir=runs/mine \\
        [--mode=train|eval|serve|describe] [--config.train.learning_rate=3e-4 ...]

    train     trains, or goes on where DIR's last checkpoint stopped; Ctrl-C and SIGTERM save and exit 0
    eval      restores a checkpoint, runs simulators against it, writes DIR/eval/<id>/results.json and videos
    serve     restores a checkpoint and answers robots on config.serve.host:port
    describe  prints parameters, operations and layouts of a configuration, without data

eval and serve take the network from the checkpoint; from --config they take only the sections eval and serve.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from drifting_vla_jax import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    config_flags.DEFINE_config_file("config", None, "a file of configs/", lock_config=True)
    flags.DEFINE_string("workdir", None, "directory of the run: checkpoints, metrics, evaluations")
    flags.DEFINE_enum("mode", "train", ["train", "eval", "serve", "describe"], "what to do")
    flags.DEFINE_string("step", "latest", "eval, serve: which checkpoint, latest | best | a number")
    for part in ("vision", "text"):
        flags.DEFINE_string(
            f"{part}_weights", None, f"eval, serve: where the {part} encoder lies, if not as in training"
        )
    flags.mark_flag_as_required("config")


def main(_) -> None:
    path = Path(FLAGS["config"].config_filename)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file {path}; the project's own are in configs/")
    config = FLAGS.config
    from drifting_vla_jax import config as config_lib

    config_lib.validate(config)
    if FLAGS.mode == "describe":
        from drifting_vla_jax.train.describe import describe

        print(describe(config))
        return
    if not FLAGS.workdir:
        raise ValueError(f"--mode={FLAGS.mode} needs --workdir=DIR")
    if FLAGS.step not in ("latest", "best") and not FLAGS.step.isdigit():
        raise ValueError(f"--step={FLAGS.step} is no step; expected latest, best or a number")
    {"train": _train, "eval": _evaluate, "serve": _serve}[FLAGS.mode](config, Path(FLAGS.workdir))


def _train(config, workdir: Path) -> None:
    from drifting_vla_jax.train.loop import train

    train(config, workdir)


def _policy(config, workdir: Path):
    """The checkpoint's policy with this call's ``eval`` and ``serve`` sections."""
    from drifting_vla_jax.policy.policy import Policy

    s, given = config.serve, {"vision": FLAGS.vision_weights, "text": FLAGS.text_weights}
    encoders = {part: name for part, name in given.items() if name}
    return Policy.restore(workdir, FLAGS.step, tuple(s.batch_sizes), s.text_cache, encoders)


def _evaluate(config, workdir: Path) -> None:
    from drifting_vla_jax.evaluate.evaluation import evaluate
    from drifting_vla_jax.evaluate.table import format_results

    policy, e = _policy(config, workdir), config.eval
    out = workdir / "eval" / f"step{policy.metadata['checkpoint_step']}-seed{e.seed}"
    results = evaluate(
        policy,
        out=out,
        environment=config.env.name,
        tasks=config.env.tasks,
        episodes_per_task=e.episodes,
        workers=e.workers,
        seed=e.seed,
        execute=e.execute,
        max_steps=e.max_steps,
        hold_steps=e.hold_steps,
        frame_skip=policy.metadata["frame_skip"],
        videos=e.videos,
        video_camera=e.video_camera,
        batch_deadline_ms=config.serve.batch_deadline_ms,
    )
    print(format_results(results))
    print(f"results  {out / 'results.json'}\nvideos   {out / 'videos'}")


def _serve(config, workdir: Path) -> None:
    from drifting_vla_jax.serve.server import PolicyServer

    s = config.serve
    server = PolicyServer(
        _policy(config, workdir),
        host=s.host,
        port=s.port,
        batch_deadline_ms=s.batch_deadline_ms,
        api_key=s.api_key or None,
    )
    server.serve_forever()


def start() -> None:
    """Parses the command line and runs it."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    start()
