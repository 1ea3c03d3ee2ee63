"""Who is worked on next: `FairQueue` for requests, and `PixelBudget` for the images that are decoded at once.

Both are bounded, and both say how long they would have to be waited for rather than letting memory or time run out.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.errors import ServiceError


class FairQueue:
    """A fixed number of places; of those who wait, each tenant in turn. Within a tenant: first come, first served."""

    def __init__(self, places: int, waiting: int) -> None:
        """`places` are worked on at once, and at most `waiting` wait for one."""
        self._free, self._most_waiting = places, waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting, self.running = 0, 0

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place inside the block, once there is one; limit the wait from outside.

        Raises:
            ServiceError: 429, too many wait already.
        """
        await self._take(tenant)
        try:
            yield
        finally:
            self.running -= 1
            self._pass_on()

    async def _take(self, tenant: str) -> None:
        if self._free > 0:
            self._free -= 1
            self.running += 1
            return
        if self.waiting >= self._most_waiting:
            raise ServiceError(
                429, f"{self.waiting} requests wait already (serve.max_waiting): try again", "rate_limit_exceeded",
                retry_after_s=1,
            )  # fmt: skip
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came at the same moment
                self.running -= 1
                self._pass_on()
            else:
                self._leave(tenant, turn)
            raise

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        line = self._lines[tenant]
        line.remove(turn)
        self.waiting -= 1
        if not line:
            del self._lines[tenant]

    def _pass_on(self) -> None:
        """Give a place to the tenant that was served longest ago."""
        if not self._lines:
            self._free += 1
            return
        tenant, line = next(iter(self._lines.items()))
        turn = line.popleft()
        self.waiting -= 1
        del self._lines[tenant]
        if line:
            self._lines[tenant] = line  # behind all others
        self.running += 1
        turn.set_result(None)


class PixelBudget:
    """A bound on decoded pixels at once. A request that alone would take more waits until nothing else is held."""

    def __init__(self, pixels: int) -> None:
        """All free."""
        self._all, self._free = pixels, pixels
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def held(self, pixels: int) -> AsyncIterator[None]:
        """Hold `pixels` inside the block, once they are free."""
        wanted = min(pixels, self._all)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            async with self._changed:
                self._changed.notify_all()
