"""The trace of a few steps: begins when everything is compiled, ends when it should, or when the training does."""

import jax
import pytest

from drifting_vla_jax.train.monitoring.profile import traced


@pytest.mark.parametrize(
    ("steps", "inside", "events"),
    [(2, [13, 14], ["start", "stop"]), (9, [13, 14, 15, 16], ["start", "stop"]), (0, [], [])],
)
def test_what_is_traced_of_a_run_resumed_at_step_10(tmp_path, monkeypatch, steps, inside, events):
    seen, folders = [], []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: seen.append("start") or folders.append(folder))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: seen.append("stop"))
    traced_steps = []
    with traced(tmp_path, steps, 10) as before:
        for step in range(11, 17):
            before(step)
            if seen == ["start"]:
                traced_steps.append(step)
    assert (traced_steps, seen) == (inside, events)
    assert folders == [str(tmp_path / "profile")] * bool(steps)
