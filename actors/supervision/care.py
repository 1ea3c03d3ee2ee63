"""What a pool of actors promises: the states of a member, how it is asked whether it is well, and what is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from failures import ActorLost, ActorTimeout

LOSSES = (ActorLost, ActorTimeout)
"""How work fails that an actor did not do."""


class State(StrEnum):
    """Where a member of a pool stands. Only a healthy one is given work."""

    STARTING = "starting"
    WAITING = "waiting for a place"
    """Planned beyond the pool's size: it starts once the cluster has room for it, and nobody counts on it before."""
    HEALTHY = "healthy"
    DEAD = "dead"
    """Lost, and waiting for its restart."""
    RESTARTING = "restarting"
    STALE = "stale"
    """Up again, but not yet what it must be: `on_restart` is at work, such as giving an engine the current weights."""
    GIVEN_UP = "given up"
    """Lost more often than it may be started again."""
    STOPPED = "stopped"


@dataclass(frozen=True)
class Probe:
    """How members are asked whether they are well. Times are in seconds."""

    timeout_s: float
    """A member that gives no answer within this time is lost."""
    interval_s: float = 10.0
    method: str = "__ray_ready__"
    """What is called; every Ray actor has this one. An error that it raises is a loss too."""
    while_busy: bool = False
    """Also ask while a call is under way: only for actors that answer several calls at once."""


@dataclass(frozen=True)
class Care:
    """How a pool is looked after. Times are in seconds."""

    start_timeout_s: float
    """Longest wait for a member to start, and again for `on_restart`."""
    restarts: int
    """How often each member is started again."""
    budget: str
    """The recipe's key of `restarts`, for messages."""
    backoff_s: float = 1.0
    """The wait before a member's second restart; its first follows at once, and each further wait is twice as long."""
    longest_backoff_s: float = 60.0
    probe: Probe | None = None
    stop: str | None = None
    """Method that ends a member in good order, before its process is killed."""
    stop_timeout_s: float = 30.0
    folder: Path | None = None
    """The run's folder, where the stacks of a member that gave no answer are kept before it is ended."""


@dataclass
class Counts:
    """What became of what a pool was asked for; each pool adds numbers of its own."""

    asked: int = 0
    retried: int = 0
    """Requests that were sent again."""
    lost: int = 0
    """How often an actor was lost, or failed to come back."""
    restarted: int = 0
    """How often a lost actor came back."""
    joined: int = 0
    """How often an actor beyond the pool's size joined (`Supervisor.invite`)."""
    failed: Counter[str] = field(default_factory=Counter)
    """Requests that were given up, by reason."""

    def metrics(self, prefix: str) -> dict[str, float]:
        """The counts under the names of the journal."""
        plain = {f"{prefix}/{name}": float(value) for name, value in vars(self).items() if name != "failed"}
        return plain | {f"{prefix}/failed/{reason}": float(count) for reason, count in sorted(self.failed.items())}
