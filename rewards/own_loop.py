"""`OwnLoop`: where a user's coroutines run, in a thread of its own, so that one that blocks holds up no other work.

They share one event loop, as clients that are opened once expect. Where a coroutine keeps that loop from going on,
thread and loop are given up, the others are begun again on new ones, and the thread ends with Python at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from rewards.clip import ClipFailed
from rewards.judge import JudgeFailed
from rewards.own_processes import TIMED_OUT
from rewards.returned import as_score, failed
from rewards.score import Score

LOOK_EVERY_S = 0.5
"""How often a call looks whether its loop still goes on."""


class OwnLoop:
    """Awaits coroutines side by side, each for a bounded time of its own."""

    def __init__(self, timeout_s: float) -> None:
        """Start nothing yet. `timeout_s` bounds one call in seconds, less what it waits for the judge or CLIP."""
        self._timeout_s = timeout_s
        self._running: _Loop | None = None

    async def score(
        self, name: str, function: Callable[..., Awaitable[Any]], *arguments: Any, services: Mapping[str, Any]
    ) -> Score:
        """What a coroutine function returns, as a score; one that takes too long, or raises, has its failure there."""
        while True:
            loop = self._running = self._running if self._running and self._running.goes_on else _Loop()
            call = _Call(name, self._timeout_s, asyncio.get_running_loop())
            future = asyncio.run_coroutine_threadsafe(call.run(function, arguments, services), loop.loop)
            if (score := await self._watched(loop, call, future)) is not None:
                return score

    async def _watched(self, loop: _Loop, call: _Call, future: Future[Score]) -> Score | None:
        """The score of a call; None where another call blocks the loop, so that it has to be begun again."""
        answer = asyncio.wrap_future(future)
        try:
            while not (await asyncio.wait({answer}, timeout=min(LOOK_EVERY_S, self._timeout_s)))[0]:
                blocking = loop.blocked_by(self._timeout_s)
                if blocking is not None:
                    return call.timed_out if blocking is call.task else None
            return answer.result()
        finally:
            answer.cancel()  # that of a loop that was given up; also where who asked is gone

    def close(self) -> None:
        """Let the thread end, once nothing blocks it."""
        self._running = None


class _Loop:
    """An event loop and its thread, which ends when nobody holds this any more."""

    def __init__(self) -> None:
        self.loop, self.goes_on = asyncio.new_event_loop(), True
        self._current: asyncio.Task[Any] | None = None
        self._since = time.monotonic()
        threading.Thread(target=_run, args=(self.loop,), daemon=True).start()
        weakref.finalize(self, self.loop.call_soon_threadsafe, self.loop.stop)

    def blocked_by(self, timeout_s: float) -> asyncio.Task[Any] | None:
        """The coroutine that has not let the loop go on for so long; None while all is well."""
        current = asyncio.current_task(self.loop)
        if current is not self._current:
            self._current, self._since = current, time.monotonic()
        if current is None or time.monotonic() - self._since < timeout_s:
            return None
        self.goes_on = False
        return current


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, and end what it leaves; the body of a daemon thread."""
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


class _Call:
    """One call of a coroutine function, and the time that it has taken for itself."""

    def __init__(self, name: str, timeout_s: float, home: asyncio.AbstractEventLoop) -> None:
        self._name, self._timeout_s, self._home = name, timeout_s, home
        self._excused_s, self._asking, self._asking_since = 0.0, 0, 0.0
        self.task: asyncio.Task[Score] | None = None

    @property
    def timed_out(self) -> Score:
        took = f"{self._name} took longer than reward.timeout_s={self._timeout_s:g} s"
        return Score(0.0, failure=f"{TIMED_OUT}: {took}")

    async def run(self, function: Callable[..., Awaitable[Any]], given: Any, services: Mapping[str, Any]) -> Score:
        began = time.monotonic()
        shown = {which: _Elsewhere(service, self._home, self._excused) for which, service in services.items()}
        self.task = asyncio.create_task(self._guarded(function, given, shown))
        try:
            while not self.task.done():
                left = self._timeout_s - (time.monotonic() - began - self._excused_s)
                if left <= 0 and not self._asking:
                    return self.timed_out
                await asyncio.wait({self.task}, timeout=LOOK_EVERY_S if self._asking else left)
            return self.task.result()
        finally:
            self.task.cancel()  # and no wait for it: a coroutine may refuse to end

    async def _guarded(self, function: Callable[..., Awaitable[Any]], given: Any, services: Any) -> Score:
        try:
            return as_score(self._name, await function(*given, **services))
        except (JudgeFailed, ClipFailed) as error:
            return Score(0.0, failure=f"{self._name}_{error}")
        except BaseException as error:  # SystemExit too, which would end the loop: the reason travels in the score
            return failed(self._name, error)

    @contextlib.contextmanager
    def _excused(self) -> Iterator[None]:
        """The time of a service, which has limits of its own, is not the reward's."""
        self._asking_since = self._asking_since if self._asking else time.monotonic()
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            self._excused_s += 0.0 if self._asking else time.monotonic() - self._asking_since


class _Elsewhere:
    """A service as seen from another loop than its own."""

    def __init__(self, service: Any, home: asyncio.AbstractEventLoop, excused: Callable[[], Any]) -> None:
        self._service, self._home, self._excused = service, home, excused

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def asked(*arguments: Any) -> Any:
            with self._excused():
                future = asyncio.run_coroutine_threadsafe(getattr(self._service, name)(*arguments), self._home)
                return await asyncio.wrap_future(future)

        return asked
