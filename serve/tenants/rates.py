"""`RateLimiter`: a bucket of calls for each tenant, in memory: a server that ends forgets a minute's worth."""

from __future__ import annotations

import time
from collections.abc import Callable

from serve.errors import ServiceError


class RateLimiter:
    """Token buckets, refilled evenly; each holds a minute's calls at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, tenant_id: str, per_minute: int) -> None:
        """Take one call of a tenant.

        Raises:
            ServiceError: 429, with the time until there is one again.
        """
        now, rate = self._clock(), per_minute / 60.0
        level, at = self._buckets.get(tenant_id, (float(per_minute), now))
        level = min(float(per_minute), level + (now - at) * rate)
        if level < 1.0:
            self._buckets[tenant_id] = (level, now)
            wait = (1.0 - level) / rate
            raise ServiceError(
                429,
                f"more than {per_minute} calls a minute (requests_per_minute): try again in {wait:.1f} s",
                "rate_limited",
                retry_after_s=wait,
            )
        self._buckets[tenant_id] = (level - 1.0, now)
