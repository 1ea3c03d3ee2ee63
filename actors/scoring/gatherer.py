"""`Gatherer`: many small requests to a pool of actors; those that come together travel in one call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

from actors.supervision.supervisor import Supervised, Supervisor
from failures import ActorLost

Asked = TypeVar("Asked")
Reply = TypeVar("Reply")


class Gatherer(Generic[Asked, Reply]):
    """Asks the members of a pool, which it ends with itself."""

    def __init__(
        self,
        pool: Supervisor,
        call: Callable[[Supervised, list[Asked]], AsyncIterator[tuple[int, Reply]]],
        *,
        wait_s: float,
        most: int,
        calls: int,
    ) -> None:
        """Gather for a pool.

        Args:
            pool: the actors that answer.
            call: sends requests to a member and yields each one's position and reply, in any order. It ends in time.
            wait_s: how long requests are gathered for one call, in seconds, unless `most` are there before.
            most: requests in one call.
            calls: calls that a member has at once; what comes meanwhile is gathered too.
        """
        self.pool, self._call, self._wait_s, self._most = pool, call, wait_s, most
        self._lanes: list[_Lane[Asked, Reply]] = [_Lane(member, calls) for member in pool.members]
        self._open: set[asyncio.Future[Reply]] = set()

    async def ask(self, request: Asked, key: str | None = None) -> Reply:
        """The reply of one member, chosen as `Supervisor.choose` does; waits for one that is being started again.

        Raises:
            ActorLost, ActorTimeout: it did not answer; another may, unless the pool is exhausted.
            Exception: what `call` raised.
        """
        member = await self.pool.choose(self.pool.care.start_timeout_s, key)
        lane = self._lanes[member.index]
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        member.load += 1
        lane.gathered.append((request, future))
        if len(lane.gathered) == 1:
            self.pool.begin(self._send(lane))
        if len(lane.gathered) >= self._most:
            lane.full.set()
        try:
            return await future
        finally:
            member.load -= 1
            self._open.discard(future)

    async def close(self) -> None:
        """Fail what waits with `ActorLost`, and end the pool."""
        _fail(self._open, ActorLost(f"every {self.pool.name} was stopped"))
        await self.pool.close()

    async def _send(self, lane: _Lane[Asked, Reply]) -> None:
        if len(lane.gathered) < self._most:
            lane.full.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lane.full.wait(), self._wait_s)
        async with lane.doors:
            batch, lane.gathered = lane.gathered[: self._most], lane.gathered[self._most :]
            if lane.gathered:
                self.pool.begin(self._send(lane))
            wanted = [(request, future) for request, future in batch if not future.done()]  # a caller may be gone
            if wanted:
                await self._deliver(lane.member, wanted)

    async def _deliver(self, member: Supervised, wanted: list[tuple[Asked, asyncio.Future[Reply]]]) -> None:
        waiting = dict(enumerate(future for _, future in wanted))
        failure: Exception = ActorLost(f"{member.name} left requests unanswered")
        try:
            async for position, reply in self._call(member, [request for request, _ in wanted]):
                future = waiting.pop(position)
                if not future.done():
                    future.set_result(reply)
        except Exception as error:  # every caller that waits gets it
            failure = error
        _fail(waiting.values(), failure)


class _Lane(Generic[Asked, Reply]):
    """What is on its way to one member."""

    def __init__(self, member: Supervised, calls: int) -> None:
        self.member, self.doors, self.full = member, asyncio.Semaphore(calls), asyncio.Event()
        self.gathered: list[tuple[Asked, asyncio.Future[Reply]]] = []


def _fail(futures: Iterable[asyncio.Future[Reply]], failure: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(failure)
