"""What every simulated process did when: rows of spans, for shares of idle time and the picture of the first steps."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """Something that was done from a second to another."""

    began: float
    ended: float
    kind: str


@dataclass
class Row:
    """One process."""

    name: str
    kind: str
    """Of its spans: what it does when it works."""
    spans: list[Span] = field(default_factory=list)
    _since: float | None = None

    def busy(self, now: float) -> None:
        """It works from now on."""
        if self._since is None:
            self._since = now

    def idle(self, now: float) -> None:
        """It does not any more."""
        if self._since is not None and now > self._since:
            last = self.spans[-1] if self.spans else None
            if last is not None and last.kind == self.kind and now - last.ended < 1e-9:
                self.spans[-1] = Span(last.began, now, self.kind)
            else:
                self.spans.append(Span(self._since, now, self.kind))
        self._since = None

    def did(self, kind: str, began: float, ended: float) -> None:
        """It did something of another kind."""
        if ended > began:
            self.spans.append(Span(began, ended, kind))

    def share(self, began: float, ended: float) -> float:
        """The share of a time in which it worked."""
        inside = (min(one.ended, ended) - max(one.began, began) for one in self.spans if one.kind == self.kind)
        return sum(max(0.0, length) for length in inside) / (ended - began)


class Timeline:
    """All rows."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.rows: dict[str, Row] = {}
        self.losses: list[tuple[float, str]] = []
        """When something was lost, and what."""

    def row(self, name: str, kind: str) -> Row:
        """The row of a process; the same whenever it is asked for."""
        return self.rows.setdefault(name, Row(name, kind))

    def of(self, kind: str) -> list[Row]:
        """The rows of the processes that do something."""
        return [row for row in self.rows.values() if row.kind == kind]

    def close(self, now: float) -> None:
        """End every span."""
        for row in self.rows.values():
            row.idle(now)
