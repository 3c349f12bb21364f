"""The one command line.

    python -m drifting_vla_jax.main --config=configs/quickstart.py --workdir=runs/mine \\
        [--mode=train|eval|serve|describe|compile] [--config.train.learning_rate=3e-4 ...]

    train     trains, or goes on where DIR's last checkpoint stopped; Ctrl-C and the signals of batch systems save and exit 0
    eval      restores a checkpoint, runs simulators against it, writes DIR/eval/<id>/results.json and videos;
              with --sampling_steps=2 a flow-matching policy takes so many Euler steps, whatever it was trained for;
              with --execute=1,2,4 once for each number of actions executed of a chunk, and one table of all
    serve     restores a checkpoint and answers robots on config.serve.host:port
    describe  prints parameters, operations and layouts of a configuration, without data
    compile   compiles a configuration for --topology=v5e:4x4 (or h100:8, ...), which need not be there: memory, messages

--config takes a file anywhere, the name of one of configs/ (quickstart), or the config.json of a run.
eval and serve take the network from the checkpoint; from --config they take only the sections eval and serve. DIR may
also be a policy that policy.export wrote.

train may be started several times at once, one process per host, as one run: under SLURM, on TPU pods and on GKE the
processes find each other; elsewhere each is told --coordinator=HOST:PORT --num_processes=N --process_id=I (launch/).
"""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.core import cli, paths, ranges

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)


def define_flags() -> None:
    config_files.define_flag()
    cli.define_path("workdir", None, "directory of the run: checkpoints, metrics, evaluations")
    flags.DEFINE_enum("mode", "train", ["train", "eval", "serve", "describe", "compile"], "what to do")
    flags.DEFINE_string("topology", None, "compile: the devices, e.g. v5e:4x4, v6e:4x4, h100:8; they need not be there")
    flags.DEFINE_string("step", "latest", "eval, serve: which checkpoint, latest | best | a number")
    flags.DEFINE_list("execute", None, "eval: several values of config.eval.execute, e.g. 1,2,4: one table of all")
    flags.DEFINE_integer(
        "sampling_steps",
        0,
        "eval, serve: steps of a policy that samples in several, such as flow matching; 0: as it was trained",
        *ranges.SEVERAL.bounds,
    )
    flags.DEFINE_alias("flow_steps", "sampling_steps")
    for part in ("vision", "text"):
        where = f"eval, serve: where the {part} encoder lies, if not as in training"
        cli.define_path(f"{part}_weights", None, where, hub=True)
    flags.DEFINE_string("coordinator", None, "train: host:port on which process 0 of several listens")
    flags.DEFINE_integer("num_processes", None, "train: how many there are; 1: this one alone", 1, 2**20)
    flags.DEFINE_integer("process_id", None, "train: which of them this is, from 0", 0, 2**20)
    flags.DEFINE_integer("timeout", 600, "train: seconds that several processes wait for each other", 30, 10**7)


def main(_) -> None:
    from drifting_vla_jax.config.io import from_flag
    from drifting_vla_jax.policy.artifact import is_artifact

    config = from_flag(exported=FLAGS.mode in ("eval", "serve") and bool(FLAGS.workdir) and is_artifact(FLAGS.workdir))
    if FLAGS.mode == "describe":
        from drifting_vla_jax.aot.describe import describe

        print(describe(config))
        return
    if FLAGS.mode == "compile":
        _compile(config)
        return
    if not FLAGS.workdir:
        raise ValueError(f"--mode={FLAGS.mode} needs --workdir=DIR")
    if FLAGS.mode in ("train", "eval"):
        paths.writable(FLAGS.workdir)  # now, not after hours
    if FLAGS.step not in ("latest", "best") and not FLAGS.step.isdecimal():
        raise ValueError(f"--step={FLAGS.step} is no step; expected latest, best or a number")
    modes = {"train": _train, "eval": _sweep if FLAGS.execute else _evaluate, "serve": _serve}
    modes[FLAGS.mode](config, Path(FLAGS.workdir))


def _compile(config) -> None:
    from drifting_vla_jax.aot import topology

    if not FLAGS.topology:
        raise ValueError(f"--mode=compile needs --topology, what to compile for; known are {topology.KNOWN}")
    topology.prepare(topology.parse(FLAGS.topology))
    from drifting_vla_jax.aot.compile import compile_report

    print(compile_report(config, FLAGS.topology))


def _train(config, workdir: Path) -> None:
    from drifting_vla_jax.evaluate.checkpoint import check_film
    from drifting_vla_jax.train.distributed import processes
    from drifting_vla_jax.train.loop import train

    check_film(config)  # here, not after hours
    with processes(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, FLAGS.timeout):
        train(config, workdir)


def _policy(config, workdir: Path, batch_sizes):
    """The policy in DIR, a run or an exported artifact, with this call's ``serve`` section."""
    from drifting_vla_jax.policy import artifact, compile_cache

    s, given = config.serve, {"vision": FLAGS.vision_weights, "text": FLAGS.text_weights}
    encoders = {part: name for part, name in given.items() if name}
    if s.compile_cache:
        compile_cache.keep(workdir / "compile_cache")
    if artifact.is_artifact(workdir):
        if encoders or FLAGS.step != "latest" or FLAGS.sampling_steps:
            raise ValueError(
                f"{workdir} is an exported policy, complete as it is; --step, --sampling_steps, --*_weights are for runs"
            )
        policy = artifact.load(workdir, tuple(batch_sizes), s.text_cache)
        drawn, asked = (policy.metadata["num_samples"], policy.metadata["choose"]), (s.num_samples, s.choose)
        if asked not in ((1, "first"), drawn):  # the default, or what it does
            raise ValueError(f"{workdir} was exported with num_samples and choose {drawn}, config.serve says {asked}")
        if s.dataset not in ("", policy.metadata.get("dataset", "")):
            acts = policy.metadata.get("dataset") or "the one data set it learned from"
            raise ValueError(f"{workdir} was exported to act for {acts}, config.serve.dataset says {s.dataset!r}")
        return policy
    from drifting_vla_jax.policy import restore

    how = (encoders, s.num_samples, s.choose, s.dataset, FLAGS.sampling_steps)
    return restore.restore(workdir, FLAGS.step, tuple(batch_sizes), s.text_cache, *how)


def _evaluate(config, workdir: Path) -> None:
    from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured, folder
    from drifting_vla_jax.evaluate.table import format_results

    policy = _policy(config, workdir, batch_sizes(config))
    out = folder(policy.metadata, config, workdir)
    print(format_results(evaluate_configured(policy, config, out)))
    print(f"results  {out / 'results.json'}\nvideos   {out / 'videos'}")
    _report(config, workdir)


def _report(config, workdir: Path) -> None:
    """The run's page, and the figures that show evaluations, with what has just been found; an exported policy has none."""
    from drifting_vla_jax.figures.registry import find_plot, periods
    from drifting_vla_jax.report.figures import draw_figures
    from drifting_vla_jax.report.run.page import write_report

    if not (workdir / "metrics.jsonl").is_file():
        return
    try:
        on = periods(config.figures, config.train.figures)
        names = [name for name in on if find_plot(name).source == "evaluations"]
        if names:
            draw_figures(workdir, names=names, theme=config.figures.theme, say=log.debug)
        print(f"report   {write_report(workdir)[0]}")
    except (FileNotFoundError, ValueError) as reason:  # nothing logged yet, or a damaged file: the results are there
        log.warning("no report was made: %s", reason)


def _sweep(config, workdir: Path) -> None:
    from drifting_vla_jax.evaluate.checkpoint import batch_sizes, sweep
    from drifting_vla_jax.evaluate.table import format_sweep

    try:
        values = [int(value) for value in FLAGS.execute]
    except ValueError as error:
        raise ValueError(f"--execute={','.join(FLAGS.execute)}: expected whole numbers, for example 1,2,4") from error
    print(format_sweep(sweep(_policy(config, workdir, batch_sizes(config)), config, workdir, values)))
    print(f"results  {workdir / 'eval'}")
    _report(config, workdir)


def _serve(config, workdir: Path) -> None:
    from drifting_vla_jax.serve.server import PolicyServer, ServerLimits
    from drifting_vla_jax.serve.sockets import tls

    s = config.serve
    secured = tls(s.tls_certificate, s.tls_key)  # before minutes of compilation
    server = PolicyServer(
        _policy(config, workdir, s.batch_sizes),
        host=s.host,
        port=s.port,
        batch_deadline_ms=s.batch_deadline_ms,
        api_key=s.api_key or None,
        tls=secured,
        limits=ServerLimits(s.max_connections, s.max_queue, s.idle_seconds),
    )
    server.serve_forever()


def start() -> None:
    """Parses the command line and runs it."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    start()
