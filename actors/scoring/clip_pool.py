"""`ClipPool`: compares the captions of many rollouts with their frames at once, and survives its actors.

    pool = await ClipPool.start(ClipSettings(), Path("runs"))
    cosines = await pool.similarities(list(sample.images.values()), ["A red light ahead."])

Lives in the driver, or in any script that is connected to Ray. Rollouts that arrive within a few milliseconds travel in
one call; a scene always goes to the same actor, which has its frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.scoring.clip_scorer import ClipScorer, ScoredBatch, SimilarityReply, SimilarityRequest
from actors.scoring.gatherer import Gatherer
from actors.supervision.care import LOSSES, Care, Counts, Probe
from actors.supervision.hosting import anywhere
from actors.supervision.supervisor import Supervised, Supervisor
from recipe import ActorOptions
from rewards.clip import ClipFailed
from rewards.settings import ClipSettings

CALLS_IN_FLIGHT = 2
"""One call that an actor works on, and one that waits at its door."""


@dataclass
class ClipCounts(Counts):
    """What became of the requests of a pool, and what they cost."""

    scored: int = 0
    calls: int = 0
    embedded: int = 0
    """Frames decoded and embedded."""
    cached: int = 0
    """Frames that an actor had embedded before the call that wanted them."""
    full_texts: int = 0
    """Texts that fill CLIP's context: what they say beyond it was not read."""


class ClipPool:
    """A `FrameTextSimilarity` on actors."""

    def __init__(self, settings: ClipSettings, source: str, options: ActorOptions, actor_class: type[Any]) -> None:
        """Use `start` instead."""
        self.settings, self.counts = settings, ClipCounts()
        environment = {"env_vars": {"OMP_NUM_THREADS": str(settings.threads or max(1, int(settings.cpus)))}}

        def make(index: int) -> list[Any]:
            placed = options("clip", index) | {"runtime_env": environment}
            return [ray.remote(actor_class).options(**placed).remote(source, settings)]

        care = Care(
            start_timeout_s=settings.start_timeout_s,
            restarts=settings.restarts,
            budget="reward.clip.restarts",
            probe=Probe(settings.timeout_s),
        )
        self.supervisor = Supervisor("CLIP actor", settings.actors, make, care, self.counts)
        self._gatherer = Gatherer[SimilarityRequest, SimilarityReply](
            self.supervisor,
            self._call,
            wait_s=settings.max_wait_ms / 1000,
            most=settings.batch_size,
            calls=CALLS_IN_FLIGHT,
        )

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

        source = await asyncio.to_thread(clip_source, settings.model, folder)
        pool = cls(settings, source, options or anywhere(settings.cpus, settings.gpus), actor_class)
        await pool.supervisor.start()
        return pool

    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        """See `rewards.clip.FrameTextSimilarity`.

        Every call to an actor and every restart has its timeout, and their number is bounded, so this ends.

        Raises:
            ClipFailed: counted under its reason in `counts.failed`.
        """
        self.counts.asked += 1
        try:
            reply = await self._reply(SimilarityRequest(tuple(frames), tuple(texts)))
            if reply.unreadable is not None:
                raise ClipFailed("unreadable_frame", reply.unreadable)
        except ClipFailed as error:
            self.counts.failed[error.reason] += 1
            raise
        self.counts.scored += 1
        return list(reply.cosines)

    async def stop(self) -> None:
        """Fail what is asked for still, and end the actors."""
        await self._gatherer.close()

    async def _reply(self, request: SimilarityRequest) -> SimilarityReply:
        """The reply of the scene's own actor, or of another while that one is away."""
        ask = self.supervisor.attempts(self.settings.attempts).wraps(self._gatherer.ask)
        try:
            return await ask(request, "\n".join(request.frames))
        except LOSSES as error:
            raise ClipFailed(error.reason, str(error)) from error

    async def _call(
        self, actor: Supervised, requests: list[SimilarityRequest]
    ) -> AsyncIterator[tuple[int, SimilarityReply]]:
        self.counts.calls += 1
        scored: ScoredBatch = await actor.call(self.settings.timeout_s, "score", requests)
        self.counts.embedded += scored.embedded
        self.counts.cached += scored.cached
        self.counts.full_texts += scored.full_texts
        for numbered in enumerate(scored.replies):
            yield numbered
