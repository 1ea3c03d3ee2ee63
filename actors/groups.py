"""`collect_groups`: questions become groups of scored responses, each scored the moment it ends.

It returns when all groups are complete, or, where more were begun than are wanted, when enough are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from actors.rollout.pool import EnginePool, refuse
from actors.scoring.scorers import Scorers
from data.rollout import Refusal, Rollout, SamplingSettings
from data.sample import DrivingSample
from rewards.group import ScoredRollout


async def collect_groups(
    samples: Sequence[DrivingSample],
    count: int,
    sampling: SamplingSettings,
    engines: EnginePool,
    scorers: Scorers,
    draw: str,
    refused: Callable[[Refusal], None] = refuse,
    *,
    enough: int | None = None,
) -> list[list[ScoredRollout] | None]:
    """`count` scored rollouts for each sample; each is scored as soon as it ends, whatever its siblings do.

    Args:
        samples, count, sampling: what is asked.
        engines, scorers: who answers, and who scores.
        draw: what the responses are for, and with it which seeds they are drawn by.
        refused: takes what an engine refuses; the group of such a sample is empty.
        enough: end when this many groups are complete; what is under way then is ended. None: all.

    Returns:
        The group of each sample, in the samples' order: empty where it was refused, None where it was dropped.

    Raises:
        DataError: an engine refuses a sample, and nothing takes that.
    """
    collecting = _Collecting(samples, count, scorers, refused)
    requests = engines.requests(samples, count, sampling, draw)
    for number, request in enumerate(requests):
        collecting.expect(request.request_id, number // count)
    generating = asyncio.create_task(engines.generate(requests, collecting.begin_scoring, collecting.leave_out))
    try:
        if enough is not None and enough < len(samples):
            await collecting.until(enough, generating)
        else:
            await generating
            await asyncio.gather(*collecting.groups.values())
    finally:
        generating.cancel()
        collecting.cancel()
    return collecting.found


class _Collecting:
    """The groups of one call as they come together."""

    def __init__(
        self,
        samples: Sequence[DrivingSample],
        count: int,
        scorers: Scorers,
        refused: Callable[[Refusal], None],
    ) -> None:
        self._samples, self._count, self._scorers, self._refused = samples, count, scorers, refused
        self._places: dict[str, int] = {}
        self._asked: dict[int, list[str]] = {}
        self.groups: dict[int, asyncio.Task[list[ScoredRollout]]] = {}
        self._scoring: dict[int, dict[str, asyncio.Task[ScoredRollout]]] = {}
        self._answered: Counter[int] = Counter()
        self._gone: set[int] = set()
        self._changed = asyncio.Event()

    def expect(self, request_id: str, place: int) -> None:
        """A response is asked for, to the sample at a place."""
        self._places[request_id] = place
        self._asked.setdefault(place, []).append(request_id)

    @property
    def found(self) -> list[list[ScoredRollout] | None]:
        """Each group, or None where it did not come together."""
        ended = [self.groups.get(place) for place in range(len(self._samples))]
        return [task.result() if task is not None and _is_through(task) else None for task in ended]

    def begin_scoring(self, rollout: Rollout) -> None:
        """Score a response; the last of a group completes it."""
        place = self._places[rollout.request_id]
        work = self._scorers.score(self._samples[place], rollout)
        self._scoring.setdefault(place, {})[rollout.request_id] = asyncio.create_task(work)
        self._note(place)

    def leave_out(self, refusal: Refusal) -> None:
        """Do without a sample."""
        self._refused(refusal)
        place = self._places[refusal.request_id]
        self._gone.add(place)
        self._note(place)

    async def until(self, enough: int, generating: asyncio.Task[None]) -> None:
        """Wait for as many complete groups, refused ones apart, or for all that will come."""
        generating.add_done_callback(self._tell)
        while True:
            through = [place for place, task in self.groups.items() if _is_through(task) and place not in self._gone]
            running = [task for task in self.groups.values() if not task.done()]
            if len(through) >= enough:
                self._drop_beyond(enough, through)
                return
            if generating.done():
                generating.result()  # raises what ended it
                if not running:
                    return
            await self._changed.wait()
            self._changed.clear()

    def cancel(self) -> None:
        """End what is still scored."""
        for task in (*self.groups.values(), *(one for own in self._scoring.values() for one in own.values())):
            task.cancel()

    def _note(self, place: int) -> None:
        self._answered[place] += 1
        if self._answered[place] == self._count:
            self.groups[place] = asyncio.create_task(self._complete(place))
            self.groups[place].add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        self._changed.set()

    async def _complete(self, place: int) -> list[ScoredRollout]:
        own = self._scoring.get(place, {})
        scored = [await own[one] for one in self._asked[place] if one in own]
        return [] if place in self._gone else await self._scorers.complete(self._samples[place], scored)

    def _drop_beyond(self, enough: int, through: Sequence[int]) -> None:
        for place in through[enough:]:  # complete in the same moment as the last that was wanted
            del self.groups[place]


def _is_through(task: asyncio.Task[list[ScoredRollout]]) -> bool:
    """Whether a group is complete; what ended its scoring is raised where its result is asked for."""
    return task.done() and not task.cancelled()
