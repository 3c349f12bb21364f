"""One training of the study: which objective on which data, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import numpy as np

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.objectives import flow_matching
from drifting_vla_jax.objectives.base import Objective, Sizes
from drifting_vla_jax.objectives.drifting import objective as drifting
from drifting_vla_jax.objectives.drifting.guidance import Guidance
from drifting_vla_jax.objectives.drifting.memory_bank import BankSettings
from drifting_vla_jax.objectives.regression import Regression
from drifting_vla_jax.studies.drifting.mlp_training import BATCH, Recipe, train
from drifting_vla_jax.studies.drifting.synthetic_chunks import ACTIONS, SyntheticChunks

# The temperature question: fixed sets, one that comes down during training, and one in units of each observation's reach.
RULES = {
    "0.02, 0.05, 0.2": {"temperatures": (0.02, 0.05, 0.2)},
    "0.2, 0.5, 1": {"temperatures": (0.2, 0.5, 1.0)},
    "0.5": {"temperatures": (0.5,)},
    "0.02, 0.05, 0.2 annealed from x 10": {
        "temperatures": (0.02, 0.05, 0.2),
        "temperature_anneal": drifting.TemperatureAnneal(initial_scale=10.0, fraction=0.3),
    },
    "0.1, 0.2, 0.5 in reach": {"temperatures": (0.1, 0.2, 0.5), "temperature_unit": "nearest_positive"},
}
PLAIN = drifting.Settings(
    samples=8,
    temperatures=(0.02, 0.05, 0.2),
    temperature_unit="mean_distance",
    temperature_anneal=drifting.TemperatureAnneal(initial_scale=1.0, fraction=1.0),
    grouping="chunk",
    memory_bank=BankSettings(size=0, bandwidth=1.0),
    guidance=Guidance(negatives=0, max_alpha=1.0, power=1.0, drop_instruction=0.0, alpha=1.0),
)
LAYOUT = ActionLayout("joints", tuple("xyzw"[:ACTIONS]))
FLOW_STEPS = (1, 2, 10)
OBSERVATION = np.array([[0.3, -0.4, 0.2]], np.float32)  # the one whose samples are drawn


@dataclass(frozen=True)
class Trial:
    """What to train, on what, how long.

    Attributes:
      objective: "drifting", "flow matching" or "regression".
      rule: of ``RULES``, for drifting.
      horizon: steps of a chunk; its width is 4 times that.
      bimodal: two ways of doing it, or one.
    """

    objective: str
    seed: int
    steps: int
    rule: str = "0.1, 0.2, 0.5 in reach"
    samples: int = 8
    horizon: int = 16
    bimodal: bool = True

    def make(self) -> Objective:
        sizes = Sizes(noise_dim=ACTIONS, horizon=self.horizon, batch_size=BATCH, tasks=1, summary_dim=0)
        if self.objective == "drifting":
            settings = replace(PLAIN, samples=self.samples, **RULES[self.rule])
            return drifting.Drifting(settings, LAYOUT, sizes)
        if self.objective == "flow matching":
            return flow_matching.FlowMatching(flow_matching.Settings(self.samples, max(FLOW_STEPS)), LAYOUT, sizes)
        return Regression(None, LAYOUT, sizes)


@dataclass(frozen=True)
class Outcome:
    """Figures by way of sampling ("1 step", ...), 64 samples of one observation each, and the seconds of training."""

    trial: Trial
    figures: dict[str, dict[str, float]]
    drawn: dict[str, np.ndarray]
    seconds: float


def run(trial: Trial) -> Outcome:
    """Trains and judges; a training of flow matching is judged with each number of steps."""
    objective, data = trial.make(), SyntheticChunks(trial.horizon, trial.bimodal)
    trained = train(objective, data.demonstrations(), Recipe(trial.steps), trial.seed)
    samplers = {"1 step": objective}
    if objective.adjustable_steps:
        samplers = {f"{k} step{'s' * (k > 1)}": objective.with_steps(k) for k in FLOW_STEPS}
    figures, drawn = {}, {}
    for name, sampler in samplers.items():

        def sample(params, o, key, g, sampler=sampler):
            return trained.sample(params, o, key, g, sampler)

        figures[name] = data.judge(sample, trained.params, trial.seed)
        drawn[name] = np.asarray(sample(trained.params, OBSERVATION, jax.random.key(5), 64))[0]
    return Outcome(trial, figures, drawn, trained.seconds)
