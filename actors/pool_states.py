"""What the pools of a run hold at a moment, for `actors/record/exporter.py`: queues, members, failures."""

from __future__ import annotations

from collections.abc import Callable

from actors.crew import Crew
from actors.record.exporter import PoolState
from actors.scoring.judge_engines import JudgeEngines
from actors.supervision.care import Counts, State
from actors.supervision.supervisor import Supervisor


def pool_states(crew: Crew) -> dict[str, Callable[[], PoolState]]:
    """Each pool of a run to what asks for its state; to be called from any thread."""
    states: dict[str, Callable[[], PoolState]] = {"engines": lambda: _supervised(crew.engines.engines)}
    if (clip := crew.scorers.clip) is not None:
        states["clip"] = lambda: _supervised(clip.supervisor)
    if (judge := crew.scorers.judge) is not None:
        engines = judge.backend.engines if isinstance(judge.backend, JudgeEngines) else None

        def judging() -> PoolState:
            waiting, counts = judge.waiting, judge.counts
            state = _supervised(engines) if engines is not None else _counted(counts)
            return state._replace(waiting=waiting, judged=counts.judged, seconds=counts.seconds)

        states["judge"] = judging
    return states


def _counted(counts: Counts) -> PoolState:
    return PoolState(0, counts.asked, counts.failed.total(), restarted=counts.restarted)


def _supervised(pool: Supervisor) -> PoolState:
    absent = (State.WAITING, State.GIVEN_UP)
    members = [member for member in pool.members if not (member.invited and member.state in absent)]
    return _counted(pool.counts)._replace(
        waiting=sum(member.load for member in members), healthy=len(pool.healthy), members=len(members)
    )
