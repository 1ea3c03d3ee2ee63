"""An event loop whose time is simulated: when nothing is ready it jumps to the next thing that is due.

What waits by asyncio (sleeps, timeouts, back-off, probes) then takes no time. Work in threads does: the clock stands
still until it is done.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_WORK_S = 600.0
"""Longest wait, in real seconds, for work in a thread."""

ASKED_EVERY = 1000
"""Turns of the loop between two looks at what comes from outside, while no thread works."""
LONGEST_SILENCE_S = 30.0
"""Longest wait, in real seconds, where nothing is due and nobody is known to work."""


class Stuck(RuntimeError):
    """Nothing is due, and nobody works: a simulated run waits for what will never come."""


class SimulatedClock(asyncio.SelectorEventLoop):
    """An event loop that begins at 0 and never waits for time to pass."""

    def __init__(self) -> None:
        """Stand at 0."""
        self._selector_below = _Jumping(self)
        super().__init__(self._selector_below)
        self._now, self._working = 0.0, 0

    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return self._now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """As asyncio's; the clock stands still meanwhile."""
        work = super().run_in_executor(executor, func, *args)
        self._working += 1
        work.add_done_callback(self._done)
        return work

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    @property
    def working(self) -> bool:
        """Whether something runs in a thread."""
        return self._working > 0

    def _done(self, _: object) -> None:
        self._working -= 1


class _Jumping(selectors.DefaultSelector):
    """A selector that lets simulated time pass instead of waiting."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__()
        self._clock, self._unasked = clock, 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; where nothing is, the clock jumps by `timeout`, unless a thread works."""
        if self._clock.working:
            return super().select(LONGEST_WORK_S if timeout is None or timeout > 0 else 0)
        self._unasked += 1
        if self._unasked >= ASKED_EVERY:  # nothing but a signal, such as Ctrl-C, can have come
            self._unasked = 0
            if found := super().select(0):
                return found
        if timeout is not None:
            self._clock.jump(max(0.0, timeout))
            return []
        if found := super().select(LONGEST_SILENCE_S):  # a thread of nobody's executor, such as ends another one
            return found
        raise Stuck("the simulated run waits for something that nobody will do")


def run_simulated(work: Coroutine[Any, Any, T]) -> tuple[T, float]:
    """Run to the end on a simulated clock; the result, and the simulated seconds that passed."""
    with asyncio.Runner(loop_factory=SimulatedClock) as runner:
        found = runner.run(work)
        return found, runner.get_loop().time()
