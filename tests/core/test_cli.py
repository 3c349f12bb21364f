"""Bad input on the command line: one line on stderr, a non-zero exit, nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from configs import quickstart
from drifting_vla_jax import main
from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.evaluate import checkpoint, table
from tests import commands

ROOT = Path(__file__).parents[2]
MAIN = ("drifting_vla_jax.main", "--config=configs/quickstart.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            (*MAIN, "--config.train.learning_rat=1"),
            "unknown configuration key 'learning_rat'; did you mean 'learning_rate'?",
        ),
        ((*MAIN, "--workdir=w", "--config.action.horizon=0"), "config.action.horizon is 0; expected"),
        ((*MAIN, "--mode=eval"), "--mode=eval needs --workdir=DIR"),
        ((*MAIN, "--workdir=nowhere", "--mode=eval"), "no checkpoint in nowhere; train first"),
        ((*MAIN, "--workdir=w", "--config.data.path=nowhere"), "no data set at nowhere; make one with"),
        (("drifting_vla_jax.main", "--config=configs/nope.py"), "no configuration file configs/nope.py"),
        (
            ("drifting_vla_jax.data.build", "--source=metaworld", "--tasks=drawer-opn", "--out=w"),
            "unknown task 'drawer-opn' in metaworld; did you mean 'drawer-open'?",
        ),
    ],
)
def test_one_clear_line(command, message):
    done = commands.run(*command)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (ROOT / "w").exists()


@pytest.mark.slow
def test_describe_needs_no_data():
    done = commands.run(*MAIN, "--mode=describe")
    assert done.returncode == 0, done.stderr
    assert "trainable" in done.stdout and "network evaluation" in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_every_configuration_is_valid(path):
    import runpy

    from drifting_vla_jax.config.io import validate

    config = runpy.run_path(str(path))["get_config"]()
    validate(config)
    checkpoint.check_film(config)


def test_videos_of_a_view_that_the_simulator_does_not_have_are_refused_before_training(monkeypatch, tmp_path):
    config = quickstart.get_config()
    config.env.name, config.env.state_dim = "robosuite", 10
    message = "video_camera is 'zoom'; robosuite has agentview, wrist, .* and '' is the policy's first view"
    with pytest.raises(ConfigError, match=message):
        main._train(config, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=message):
        checkpoint.evaluate_configured(None, config, tmp_path)
    for key, value in (("videos", 0), ("video_camera", ""), ("video_camera", "wrist")):
        other = config.copy_and_resolve_references()
        other.eval[key] = value
        checkpoint.check_film(other)


def test_one_evaluation_for_each_number_of_actions_executed(monkeypatch, tmp_path, capsys):
    """The quickstart's chunks have 4 actions; nothing runs if any of the numbers cannot be."""
    ran = []

    def sweep(*values):
        monkeypatch.setattr(main, "FLAGS", SimpleNamespace(execute=list(values)))
        main._sweep(quickstart.get_config(), tmp_path)

    monkeypatch.setattr(main, "_policy", lambda *_: SimpleNamespace(metadata={"checkpoint_step": 7}))
    monkeypatch.setattr(
        checkpoint, "evaluate_configured", lambda _, config, out: ran.append((config.eval.execute, out.name))
    )
    monkeypatch.setattr(table, "format_sweep", lambda results: f"table of {list(results)}")
    sweep("4", "1", "4")
    assert ran == [(1, "step7-seed1000000000-execute1"), (4, "step7-seed1000000000-execute4")]
    assert capsys.readouterr().out.splitlines()[0] == "table of [1, 4]"
    with pytest.raises(ConfigError, match="config.eval.execute 8 is more than the chunk has"):
        sweep("1", "8")
    with pytest.raises(ValueError, match="--execute=1,x: expected whole numbers"):
        sweep("1", "x")
    assert len(ran) == 2
