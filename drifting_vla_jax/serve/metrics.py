"""What a server counts and measures, as ``GET /metrics`` shows it to Prometheus.

    drifting_vla_requests_total{outcome}          answered | refused | busy | failed
    drifting_vla_turned_away_total{reason}        connections not let in: unauthorized | full; let go: idle
    drifting_vla_connections, _queue_length       now
    drifting_vla_batch_size                       histogram of how many requests shared a call of the network
    drifting_vla_{queue,infer,total}_seconds      histograms per answered request
    process_*                                     memory, processor time, open files of the process

Each server has a registry of its own, so that several live in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

OUTCOMES = ("answered", "refused", "busy", "failed")
REASONS = ("unauthorized", "full", "idle")
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Telemetry:
    """See the module.

    Args:
      batch_sizes: compiled sizes, the histogram's bounds.
      connections, queue_length: asked when somebody looks.
    """

    def __init__(self, batch_sizes: Sequence[int], *, connections: Callable[[], int], queue_length: Callable[[], int]):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("drifting_vla_requests", "by how they ended", ["outcome"], registry=registry)
        self._turned_away = Counter("drifting_vla_turned_away", "connections, by why", ["reason"], registry=registry)
        self._batch = Histogram(
            "drifting_vla_batch_size", "requests in a batch", buckets=batch_sizes, registry=registry
        )
        self._times = {
            name: Histogram(f"drifting_vla_{name}_seconds", help, buckets=_SECONDS, registry=registry)
            for name, help in (
                ("queue", "waiting for a batch and for the inference thread"),
                ("infer", "in the network, until the result is ready"),
                ("total", "from message received to answer ready to send"),
            )
        }
        for name, help, ask in (
            ("connections", "open now", connections),
            ("queue_length", "requests waiting now", queue_length),
        ):
            Gauge(f"drifting_vla_{name}", help, registry=registry).set_function(ask)
        for outcome in OUTCOMES:  # shown from the start, as 0
            self._requests.labels(outcome)
        for reason in REASONS:
            self._turned_away.labels(reason)

    def ended(self, outcome: str) -> None:
        """A request ended in one of ``OUTCOMES``."""
        self._requests.labels(outcome).inc()

    def turned_away(self, reason: str) -> None:
        """A connection was not let in, or let go, for one of ``REASONS``."""
        self._turned_away.labels(reason).inc()

    def batch(self, size: int) -> None:
        """A call of the network answered ``size`` requests."""
        self._batch.observe(size)

    def times(self, timing_ms: dict[str, float]) -> None:
        """``server_timing`` of an answer: queue_ms, infer_ms, total_ms."""
        for name, histogram in self._times.items():
            histogram.observe(timing_ms[f"{name}_ms"] / 1000)

    @property
    def counts(self) -> dict[str, int]:
        """Requests by outcome and connections by reason, where there were any."""
        found = {o: self._value("requests", outcome=o) for o in OUTCOMES}
        found |= {r: self._value("turned_away", reason=r) for r in REASONS}
        return {name: int(count) for name, count in found.items() if count}

    def _value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"drifting_vla_{name}_total", labels) or 0.0

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry).decode()
