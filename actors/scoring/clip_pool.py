"""`ClipPool`: compares the captions of many rollouts with their frames at once, and survives its actors.

    pool = await ClipPool.start(ClipSettings(), Path("runs"))
    cosines = await pool.similarities(list(sample.images.values()), ["A red light ahead."])

Lives in the driver, or in any script that is connected to Ray. Rollouts that arrive within a few milliseconds travel in
one call; a scene always goes to the same actor, which has its frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from actors.errors import ActorLost, ActorTimeout
from actors.scoring.clip_scorer import ClipScorer, ScoredBatch, SimilarityReply, SimilarityRequest
from actors.waiting import ActorOptions, within
from rewards.clip import ClipFailed, ClipFailureReason
from rewards.settings import ClipSettings

CALLS_IN_FLIGHT = 2
"""One call that an actor works on, and one that waits at its door."""


@dataclass
class ClipCounts:
    """What became of the requests of a pool, and what they cost."""

    asked: int = 0
    scored: int = 0
    retried: int = 0
    """Requests that went to another or a restarted actor."""
    calls: int = 0
    embedded: int = 0
    """Frames decoded and embedded."""
    cached: int = 0
    """Frames that an actor had embedded before the call that wanted them."""
    full_texts: int = 0
    """Texts that fill CLIP's context: what they say beyond it was not read."""
    lost: int = 0
    """How often an actor was lost."""
    failed: Counter[str] = field(default_factory=Counter)

    def metrics(self) -> dict[str, float]:
        """The counts under the names of the journal."""
        plain = {f"clip/{name}": float(value) for name, value in vars(self).items() if name != "failed"}
        return plain | {f"clip/failed/{reason}": float(count) for reason, count in sorted(self.failed.items())}


class ClipPool:
    """A `FrameTextSimilarity` on actors."""

    def __init__(self, lanes: list[_Lane], settings: ClipSettings, counts: ClipCounts) -> None:
        """Use `start` instead."""
        self._lanes, self.settings, self.counts = lanes, settings, counts

    @classmethod
    async def start(
        cls,
        settings: ClipSettings,
        folder: Path,
        options: ActorOptions | None = None,
        actor_class: type[ClipScorer] = ClipScorer,
    ) -> ClipPool:
        """A pool whose actors hold the model.

        Args:
            settings: the recipe's `reward.clip`.
            folder: where the tiny CLIP is taught, once.
            options: places the actors; None reserves what the settings ask for, anywhere.
            actor_class: what runs as an actor; a test puts a fault there.

        Raises:
            ActorTimeout, ActorLost: an actor did not come up.
            ray.exceptions.RayTaskError: it cannot load the model; the cause is a `ClipError`.
        """
        from policies.tiny_clip import clip_source  # with it comes open_clip, which takes seconds to import

        source, counts = await asyncio.to_thread(clip_source, settings.model, folder), ClipCounts()
        anywhere = {"num_cpus": settings.cpus, "num_gpus": settings.gpus}
        threads = str(settings.threads or max(1, int(settings.cpus)))
        environment = {"env_vars": {"OMP_NUM_THREADS": threads}}

        def actor(index: int) -> Any:
            placed = (options("clip", index) if options else anywhere) | {"runtime_env": environment}
            return ray.remote(actor_class).options(**placed).remote(source, settings)

        lanes = [_Lane(f"CLIP actor {i}", settings, counts, lambda i=i: actor(i)) for i in range(settings.actors)]  # type: ignore[misc]
        await asyncio.gather(*(lane.open() for lane in lanes))
        return cls(lanes, settings, counts)

    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        """See `rewards.clip.FrameTextSimilarity`.

        Every call to an actor and every restart has its timeout, and their number is bounded, so this ends.

        Raises:
            ClipFailed: counted under its reason in `counts.failed`.
        """
        self.counts.asked += 1
        request = SimilarityRequest(tuple(frames), tuple(texts))
        try:
            reply = await self._attempts(request)
            if reply.unreadable is not None:
                raise ClipFailed("unreadable_frame", reply.unreadable)
        except ClipFailed as error:
            self.counts.failed[error.reason] += 1
            raise
        self.counts.scored += 1
        return list(reply.cosines)

    @property
    def actors(self) -> list[Any]:
        """The actors' handles, in order."""
        return [lane.actor for lane in self._lanes]

    async def stop(self) -> None:
        """Fail what is asked for still, and end the actors."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    async def _attempts(self, request: SimilarityRequest) -> SimilarityReply:
        failure = ClipFailed("actor_lost", "every CLIP actor was lost more often than reward.clip.restarts allows")
        for attempt in range(self.settings.attempts):
            lane = self._lane_of(request)
            if lane is None:
                break
            self.counts.retried += attempt > 0
            try:
                return await lane.ask(request)
            except _AttemptFailed as error:
                failure = error
        raise failure

    def _lane_of(self, request: SimilarityRequest) -> _Lane | None:
        """The scene's own lane; while its actor is away, the next that has one; when all are away, one to wait at."""
        first = zlib.crc32("\n".join(request.frames).encode()) % len(self._lanes)
        in_turn = [*self._lanes[first:], *self._lanes[:first]]
        here = (lane for lane in in_turn if lane.up)
        returning = (lane for lane in in_turn if not lane.given_up)
        return next(here, None) or next(returning, None)


class _AttemptFailed(ClipFailed):
    """No reply of this actor; another may have one."""


_Asked = tuple[SimilarityRequest, asyncio.Future[SimilarityReply]]


class _Lane:
    """The way to one actor: gathers requests into calls, hands replies back, replaces the actor when it is lost."""

    def __init__(self, name: str, settings: ClipSettings, counts: ClipCounts, make: Callable[[], Any]) -> None:
        self.name, self.settings, self.counts = name, settings, counts
        self.up = self.given_up = False
        self._make, self._restarts = make, 0
        self._gathered: deque[_Asked] = deque()
        self._open: set[asyncio.Future[SimilarityReply]] = set()
        self._full = asyncio.Event()
        self._doors = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self.actor = self._make()
        await within(self.settings.start_timeout_s, f"{self.name} (starting)", self.actor.start.remote())
        self.up = True

    async def ask(self, request: SimilarityRequest) -> SimilarityReply:
        future: asyncio.Future[SimilarityReply] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._gathered.append((request, future))
        if self.up and len(self._gathered) == 1:
            self._begin(self._send())
        if len(self._gathered) >= self.settings.batch_size:
            self._full.set()
        return await future

    async def close(self) -> None:
        self.up, self.given_up = False, True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(self._open, ClipFailed, "actor_lost", f"{self.name} was stopped")
        ray.kill(self.actor)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        """Gather, then call; rollouts that come while both doors are taken gather too."""
        if len(self._gathered) < self.settings.batch_size:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self.settings.max_wait_ms / 1000)
        async with self._doors:
            if not self.up:  # what is gathered is sent when the actor is back
                return
            batch = self._take(self.settings.batch_size)
            if self._gathered:
                self._begin(self._send())
            if batch:
                await self._call(batch)

    async def _call(self, batch: list[_Asked]) -> None:
        actor, what = self.actor, f"{self.name} (comparing {len(batch)} captions)"
        self.counts.calls += 1
        try:
            scored: ScoredBatch = await within(
                self.settings.timeout_s, what, actor.score.remote([request for request, _ in batch])
            )
        except (ActorLost, ActorTimeout, RayError) as error:
            reason: ClipFailureReason = "timeout" if isinstance(error, ActorTimeout) else "actor_lost"
            detail = " ".join(str(error).split())[:500]
            self._lose(actor, detail)
            self._fail([future for _, future in batch], _AttemptFailed, reason, detail)
            return
        self.counts.embedded += scored.embedded
        self.counts.cached += scored.cached
        self.counts.full_texts += scored.full_texts
        for (_, future), reply in zip(batch, scored.replies, strict=True):
            if not future.done():
                future.set_result(reply)

    def _take(self, count: int) -> list[_Asked]:
        """The first `count` that are gathered, but for those whose caller went away."""
        taken = [self._gathered.popleft() for _ in range(min(count, len(self._gathered)))]
        return [(request, future) for request, future in taken if not future.done()]

    def _fail(
        self,
        futures: Iterable[asyncio.Future[SimilarityReply]],
        failure: type[ClipFailed],
        reason: ClipFailureReason,
        detail: str,
    ) -> None:
        for future in list(futures):
            if not future.done():
                future.set_exception(failure(reason, detail))

    def _lose(self, actor: Any, detail: str) -> None:
        """Replace the actor, once for all calls that it took along; what waits for it may go elsewhere."""
        if actor is not self.actor or not self.up:
            return
        self.up = False
        waiting = [future for _, future in self._take(len(self._gathered))]
        self._begin(self._replace())
        self._fail(waiting, _AttemptFailed, "actor_lost", detail)

    async def _replace(self) -> None:
        """Start the actor again; rollouts that find no other wait here meanwhile."""
        while not self.given_up:
            self.counts.lost += 1
            ray.kill(self.actor)
            if self._restarts == self.settings.restarts:
                self.given_up = True
                detail = f"{self.name} was lost more often than reward.clip.restarts allows"
                self._fail([future for _, future in self._take(len(self._gathered))], ClipFailed, "actor_lost", detail)
                return
            self._restarts += 1
            try:
                await self.open()
            except (ActorLost, ActorTimeout, RayError):
                continue
            if self._gathered:
                self._begin(self._send())
            return
