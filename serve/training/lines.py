"""`Line`: the order of one model's requests: by number, never by arrival. Pure; the queue asks it what is next.

A client may use up a number without sending it, and sends the chunks of one forward_backward in any order. A call of
any other kind is sent after all before it were answered, so holes below one will never fill; a forward_backward waits
for the numbers below it, with a limit.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

WAITS = "forward_backward"
"""The only kind that arrives before what has a lower number."""


@dataclass(order=True, frozen=True, slots=True)
class Waiting:
    """A request that has not been applied."""

    seq: int
    id: str
    kind: str
    arrived: float
    """Seconds of a monotonic clock."""


@dataclass
class Line:
    """One model's requests."""

    applied: int
    """Every number up to here is settled."""
    _waiting: list[Waiting] = field(default_factory=list)
    _settled: set[int] = field(default_factory=set)
    """Numbers above `applied` that need nothing any more: their requests failed as they came."""

    def add(self, request: Waiting) -> None:
        """A request arrived."""
        heapq.heappush(self._waiting, request)

    def settle(self, seq: int) -> None:
        """A number is used up, and nothing of it is to be applied."""
        self._settled.add(seq)

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._waiting)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def next(self, now: float, gap_s: float) -> Waiting | float | None:
        """The request whose turn it is, or the time at which it will be, or None while the line is empty."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        whole = all(seq in self._settled for seq in range(self.applied + 1, first.seq))
        final = first.kind != WAITS or any(other.kind != WAITS for other in self._waiting)
        if whole or final or now >= first.arrived + gap_s:
            return first
        return first.arrived + gap_s

    def done(self, request: Waiting) -> None:
        """The request was applied, or failed."""
        self._waiting.remove(request)
        heapq.heapify(self._waiting)
        self.applied = max(self.applied, request.seq)
        self._settled = {seq for seq in self._settled if seq > self.applied}
