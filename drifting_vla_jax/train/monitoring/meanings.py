"""The meaning of every metric that a training logs: shown on the run's page and in docs/, as one table.

A name in ``metrics.jsonl`` is prefix/metric or prefix/metric/part, such as train/drift_sq/0.2.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """A metric's unit ("" if it has none) and what it says."""

    unit: str
    text: str


PREFIXES = {
    "train": "training batches, every `config.train.log_every` steps",
    "val": "held-out episodes with the EMA weights, every `config.train.eval_every` steps; with a mixture also per data set",
    "sim": "evaluations in simulation beside the training, at the step when the result is known",
}
NETWORK = "network units"  # standard deviations of the data

MEANINGS = {
    "loss": Meaning("", "The objective's loss. Constant for drifting by construction: watch the metrics below instead"),
    "grad_norm": Meaning("", "Global norm of the gradient before clipping"),
    "lr": Meaning("", "Learning rate"),
    "samples_per_second": Meaning("1/s", "Observations trained on per second, since the last line"),
    "step_ms": Meaning("ms", "Time of a training step, since the last line"),
    "input_wait_share": Meaning("share", "Fraction of the time spent waiting for the next batch"),
    "centroid_error": Meaning(
        NETWORK,
        "RMS distance from the mean of the samples to the expert. Falls to what the observation leaves undetermined",
    ),
    "sample_spread": Meaning(
        NETWORK,
        "RMS distance of the samples to their mean. Falls with the centroid error and stays of its size; far below it the "
        "policy is overconfident, far above it the samples have not settled",
    ),
    "collapsed_share": Meaning(
        "share", "Fraction of observations whose samples agree whatever the noise: 0 in a healthy run, 1 for regression"
    ),
    "spread_ratio": Meaning(
        "",
        "Sample spread over the distance between the experts of the most similar chunks. Settles near or below 1; if it keeps "
        "falling while the centroid error does not, the policy is overconfident",
    ),
    "energy_score": Meaning(
        NETWORK,
        "E|x - y| - E|x - x'| / 2 over samples x and the expert y. A proper score: lowest for the right distribution",
    ),
    "position_error_cm": Meaning("cm", "Distance of a single sample's position to the expert's, mean over the chunk"),
    "rotation_error_deg": Meaning("degrees", "Angle between a single sample's orientation and the expert's"),
    "gripper_accuracy": Meaning("share", "Fraction of targets whose gripper is on the right side of one half"),
    "joint_error": Meaning("", "Mean absolute error of joints, in their own unit"),
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
