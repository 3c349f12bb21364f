"""drift-models from PyPI (PyTorch): its feature-space drifting loss at the same temperatures, value and gradient."""

import importlib.metadata
import os

import line


def loss(b, n, p, d, times=1):
    import torch
    from drifting_models.drift_loss import (
        DriftFieldConfig,
        DriftingLossConfig,
        FeatureDriftingConfig,
        feature_space_drifting_loss,
    )

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    gen, pos = torch.randn(n, b, d, requires_grad=True), torch.randn(p, b, d)
    base = DriftingLossConfig(drift_field=DriftFieldConfig())
    features = FeatureDriftingConfig(temperatures=(0.02, 0.05, 0.2), temperature_aggregation="sum_drifts_then_mse")

    def run():
        for _ in range(times):
            gen.grad = None
            value, _ = feature_space_drifting_loss(
                generated_feature_vectors={"a": gen},
                positive_feature_vectors={"a": pos},
                unconditional_feature_vectors=None,
                base_loss_config=base,
                feature_config=features,
            )
            value.backward()

    return line.averaged(run, times), {
        "drift-models": importlib.metadata.version("drift-models"),
        "torch": torch.__version__,
    }


line.serve({"loss": loss})
