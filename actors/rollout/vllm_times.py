"""Where vLLM spent a response's seconds: its own times of a request, without what it would log and export of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from data.rollout import EngineTimes


@cache
def timing_only() -> type[Any]:
    """A class for `stat_loggers`: where one is named vLLM times each request, and this one does nothing with that.

    It is a kind of vLLM's Prometheus logger, since vLLM adds that one where none is named (vllm 0.32,
    `v1/metrics/loggers.py`, `StatLoggerManager`).
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class TimingOnly(PrometheusStatLogger):
        def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None:
            """Keep nothing."""

        def record(self, *_: Any, **__: Any) -> None:
            """Nothing is counted."""

        def log_engine_initialized(self) -> None:
            """Nothing is said."""

        def record_sleep_state(self, *_: Any, **__: Any) -> None:
            """Nothing is counted."""

        def record_admission_rejection(self, reason: str) -> None:
            """Nothing is counted."""

    return TimingOnly


def engine_times(prepare_s: float, stats: Any) -> EngineTimes | None:
    """The times of a request that has ended, from vLLM's `RequestStateStats`; None where it made none."""
    if stats is None or not stats.first_token_ts:
        return None
    return EngineTimes(
        prepare_s,
        stats.scheduled_ts - stats.queued_ts,
        stats.first_token_ts - stats.scheduled_ts,
        stats.last_token_ts - stats.first_token_ts,
    )
