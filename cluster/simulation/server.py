"""`Server`: decodes many sequences at once, as vLLM does, on a simulated clock. No tokens, only when each is done.

All sequences that run advance together, one token a step; what a step takes depends on how many there are and on how
much each has to read. New prompts hold everyone up while they are computed.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.simulation.timeline import Row


@dataclass(slots=True, eq=False)
class Decoded:
    """Something that is decoded."""

    prompt: int
    """Tokens that each step reads beside its own."""
    tokens: float
    """To be decoded."""
    prefill_s: float
    """What its prompt holds everyone up for."""
    done: Callable[[Decoded], None]
    about: Any = None
    begun_at: float = 0.0
    """Steps of the server when it began."""
    marks: list[tuple[int, float]] = field(default_factory=list)
    """Weight versions that it saw, each with the tokens it had then."""
    dropped: int = 0
    gone: bool = False


class Server:
    """Decodes up to `at_once` sequences together; the others wait in turn."""

    def __init__(self, step_s: Callable[[int, float], float], at_once: int, row: Row) -> None:
        """Decode.

        Args:
            step_s: from the number of sequences and the tokens of context of one of them to the seconds of a step.
            at_once: most sequences.
            row: where the times are kept in which it works.
        """
        self._step_s, self._at_once, self._row = step_s, at_once, row
        self._steps = 0.0
        """Tokens that a sequence would have that ran from the beginning on."""
        self._since = self._held = 0.0
        """Up to when that was counted, and seconds from then on in which nobody advances."""
        self._per_step = 1.0
        self._ends: list[tuple[float, int, Decoded]] = []
        self._waiting: deque[Decoded] = deque()
        self._numbers = itertools.count()
        self._running = self._context = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def load(self) -> int:
        """Sequences that run or wait."""
        return self._running + len(self._waiting)

    @property
    def waiting(self) -> int:
        """Sequences that wait for a place."""
        return len(self._waiting)

    @property
    def running(self) -> list[Decoded]:
        """Those that run, in no order."""
        return [one for _, _, one in self._ends if not one.gone]

    def begin(self, sequence: Decoded) -> None:
        """Take a sequence, at once or when there is a place."""
        self._waiting.append(sequence)
        self._go_on()

    def hold(self, seconds: float) -> None:
        """Let nobody advance for so long."""
        self._count()
        self._held += seconds
        self._go_on()

    def pause(self) -> None:
        """Let nobody advance until `resume`."""
        self._count()
        self._paused = True
        self._go_on()

    def resume(self) -> None:
        """Go on where `pause` found it."""
        self._count()
        self._paused = False
        self._go_on()

    def had(self, sequence: Decoded) -> float:
        """Tokens that one that runs has by now."""
        self._count()
        return max(0.0, self._steps - sequence.begun_at)

    def again(self, sequence: Decoded) -> None:
        """Begin one that runs anew, of the same length."""
        self.drop(sequence)
        fresh = Decoded(sequence.prompt, sequence.tokens, sequence.prefill_s, sequence.done, sequence.about)
        fresh.dropped = sequence.dropped + 1
        self.begin(fresh)

    def drop(self, sequence: Decoded) -> None:
        """Do without a sequence."""
        if sequence.gone:
            return
        self._count()
        sequence.gone = True
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        else:
            self._leave(sequence)
        self._go_on()

    def stop(self) -> None:
        """Do nothing any more."""
        self._at_once = 0
        if self._timer is not None:
            self._timer.cancel()
        self._row.idle(self._now())

    def _go_on(self) -> None:
        """Fill the places, and wait for the next that is done."""
        self._count()
        while self._waiting and self._running < self._at_once and not self._paused:
            one = self._waiting.popleft()
            one.begun_at = self._steps
            self._held += one.prefill_s
            self._running += 1
            self._context += one.prompt - round(one.begun_at)
            heapq.heappush(self._ends, (self._steps + one.tokens, next(self._numbers), one))
        while self._ends and self._ends[0][2].gone:
            heapq.heappop(self._ends)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._ends or not self._at_once or self._paused:
            self._row.idle(self._now())
            return
        self._row.busy(self._now())
        left = max(0.0, self._ends[0][0] - self._steps)
        context = self._context / self._running + self._steps + left / 2
        self._per_step = self._step_s(self._running, context)
        self._timer = asyncio.get_running_loop().call_at(self._since + self._held + left * self._per_step, self._end)

    def _end(self) -> None:
        self._timer = None
        self._steps = max(self._steps, self._ends[0][0])  # not a rounding short of it
        self._since, self._held = self._now(), 0.0
        while self._ends and (self._ends[0][2].gone or self._ends[0][0] <= self._steps):
            _, _, one = heapq.heappop(self._ends)
            if not one.gone:
                one.gone = True
                self._leave(one)
                one.done(one)
        self._go_on()

    def _leave(self, one: Decoded) -> None:
        self._running -= 1
        self._context -= one.prompt - round(one.begun_at)

    def _count(self) -> None:
        """Bring the count of steps up to now."""
        passed = self._now() - self._since
        self._since = self._now()
        if self._paused:
            return
        held = min(self._held, passed)
        self._held -= held
        if self._running:
            self._steps += (passed - held) / self._per_step

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
