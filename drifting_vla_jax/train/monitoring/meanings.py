"""The meaning of every metric that a training logs: shown on the run's page and in docs/, as one table.

A name in ``metrics.jsonl`` is prefix/metric or prefix/metric/part, such as train/drift_sq/0.2.
"""

from __future__ import annotations

from typing import NamedTuple

from drifting_vla_jax.train.validation_metrics import METRICS, NETWORK


class Meaning(NamedTuple):
    """A metric's unit ("" if it has none) and what it says."""

    unit: str
    text: str


PREFIXES = {
    "train": "training batches, every `config.train.log_every` steps",
    "val": "held-out episodes with the EMA weights, every `config.train.eval_every` steps; with a mixture also per data set",
    "sim": "evaluations in simulation beside the training, at the step when the result is known",
}
MEANINGS = {
    "loss": Meaning("", "The objective's loss. Constant for drifting by construction: watch the metrics below instead"),
    "grad_norm": Meaning("", "Global norm of the gradient before clipping"),
    "lr": Meaning("", "Learning rate"),
    "samples_per_second": Meaning("1/s", "Observations trained on per second, since the last line"),
    "step_ms": Meaning("ms", "Time of a training step, since the last line"),
    "input_wait_share": Meaning("share", "Fraction of the time spent waiting for the next batch"),
    **{metric.name: Meaning(metric.unit, metric.text) for metric in METRICS},
    "lambda_V": Meaning(NETWORK, "RMS of the unscaled drifting field per coordinate. Falls, then levels off"),
    "raw_drift_norm": Meaning(
        "", "Mean squared length of a sample's drift: lambda_V^2 times the coordinates of a chunk"
    ),
    "drift_norm": Meaning("", "raw_drift_norm at held-out observations"),
    "drift_scale": Meaning(NETWORK, "Mean distance between samples and targets: the unit of temperatures"),
    "drift_sq": Meaning("", "Mean square of each temperature's field before scaling. Shrinks as samples settle"),
    "success_rate": Meaning("share", "Episodes with sustained success, of all tasks or of one"),
    "step": Meaning("", "The step that was evaluated"),
}
