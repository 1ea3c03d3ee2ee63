"""`ServiceMetrics`: what Prometheus reads at `/metrics`. Labels are routes and kinds, never tenants' names or ids."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SMALL = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 45)
LONG = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class ServiceMetrics:
    """One registry for each server object, so that several can live in one process."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()
        of: dict[str, Any] = {"registry": self.registry}
        self.calls = Counter("adrl_calls", "HTTP calls answered", ["route", "status"], **of)
        self.call_seconds = Histogram("adrl_call_seconds", "Seconds to answer a call", ["route"], buckets=SMALL, **of)
        self.requests = Counter("adrl_requests", "Requests ended, by kind and outcome", ["kind", "outcome"], **of)
        self.request_seconds = Histogram(
            "adrl_request_seconds",
            "Seconds from a request's arrival to its result",
            ["kind"],
            buckets=LONG,
            **of,
        )
        self.work_seconds = Histogram(
            "adrl_work_seconds",
            "Seconds that a learner or an engine worked on a request",
            ["kind"],
            buckets=LONG,
            **of,
        )
        self.queued = Gauge("adrl_queued", "Requests that wait or are worked on", ["queue"], **of)
        self.tokens = Counter("adrl_tokens", "Positions trained on, prompts read and tokens sampled", ["what"], **of)
        self.images = Counter("adrl_images", "Images shown to a model", **of)
        self.lost = Counter("adrl_workers_lost", "Learners and engines that were lost over a request", ["worker"], **of)
        self.redone = Counter("adrl_requests_redone", "Requests applied again to bring a model back", **of)
        self.snapshots = Counter("adrl_snapshots", "Snapshots written", **of)
        self.resident = Gauge("adrl_models_resident", "Models that the learner holds", **of)
        self.gap = Gauge(
            "adrl_sampler_gap",
            "Largest |sampler - trainer| log-probability of the latest on-policy request",
            **of,
        )
        self.collected = Counter("adrl_collected", "What was removed by policy", ["what"], **of)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
