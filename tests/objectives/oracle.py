"""The drifting loss again, in float64 numpy loops over plain definitions: an oracle that shares no line with ours."""

import numpy as np


def drift_and_loss(
    gen, pos, neg=None, weight_gen=None, weight_pos=None, weight_neg=None, temperatures=(0.02, 0.05, 0.2)
):
    """(loss[b], gradient of its sum w.r.t. gen [b g d], scale, drift_sq[t]) of drifting_loss, float64."""
    gen, pos = np.asarray(gen, np.float64), np.asarray(pos, np.float64)
    b, g, d = gen.shape
    neg = np.zeros((b, 0, d)) if neg is None else np.asarray(neg, np.float64)

    def ones(weight, n):
        return np.ones((b, n)) if weight is None else np.asarray(weight, np.float64)

    weight = np.concatenate([ones(weight_gen, g), ones(weight_neg, neg.shape[1]), ones(weight_pos, pos.shape[1])], 1)
    y = np.concatenate([gen, neg, pos], axis=1)
    repel = g + neg.shape[1]
    distance = np.zeros((b, g, y.shape[1]))
    for i in range(g):
        difference = gen[:, i : i + 1] - y
        distance[:, i] = np.sqrt(np.maximum((difference**2).sum(-1), 1e-8))
    scale = (distance * weight[:, None]).mean() / weight.mean()
    unit = max(scale / np.sqrt(d), 1e-3)
    distance = distance / max(scale, 1e-3)
    for i in range(g):
        distance[:, i, i] += 100.0

    total, drift_sq = np.zeros_like(gen), []
    for tau in temperatures:
        kernel = -distance / tau
        over_y = np.exp(kernel - kernel.max(2, keepdims=True))
        over_y /= over_y.sum(2, keepdims=True)
        over_x = np.exp(kernel - kernel.max(1, keepdims=True))
        over_x /= over_x.sum(1, keepdims=True)
        a = np.sqrt(np.maximum(over_y * over_x, 1e-6)) * weight[:, None]
        v = np.zeros_like(gen)
        for i in range(g):
            attraction, repulsion = a[:, i, repel:], a[:, i, :repel]
            toward = attraction * repulsion.sum(1, keepdims=True)
            away = repulsion * attraction.sum(1, keepdims=True)
            v[:, i] += (toward[..., None] * (y[:, repel:] - gen[:, i : i + 1])).sum(1)
            v[:, i] -= (away[..., None] * (y[:, :repel] - gen[:, i : i + 1])).sum(1)
        v /= unit
        drift_sq.append((v**2).mean())
        total += v / np.sqrt(max(drift_sq[-1], 1e-8))
    loss = (total**2).mean((1, 2))
    return loss, -2 * total / (unit * g * d), scale, np.array(drift_sq)
