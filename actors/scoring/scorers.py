"""`Scorers`: gives each finished rollout its score, the moment it ends, without holding up generation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actors.scoring.clip_pool import ClipPool
from actors.scoring.judge_pool import JudgePool
from data.rollout import Rollout
from data.sample import DrivingSample
from recipe import ActorOptions, Recipe
from rewards.group import ScoredRollout
from rewards.route import Router
from rewards.settings import RewardSettings


class Scorers:
    """Runs the recipe's scorers beside the event loop, and holds the judge and the CLIP they ask."""

    def __init__(self, settings: RewardSettings, judge: JudgePool | None = None, clip: ClipPool | None = None) -> None:
        """Resolve the scorers of every route. Raises `RewardError` for one that does not exist."""
        self.judge, self.clip = judge, clip
        self.router = Router(settings, judge, clip)

    @classmethod
    async def start(cls, recipe: Recipe, options: ActorOptions) -> Scorers:
        """Start the judge and the CLIP, where the recipe has them, and wait until they are ready.

        Raises:
            RewardError: a scorer does not exist.
            ActorTimeout, ActorLost: a judge engine or a CLIP actor did not come up.
        """
        settings, folder = recipe.reward, Path(recipe.run.root).expanduser()

        async def judge() -> JudgePool | None:
            return await JudgePool.start(settings.judge, folder, options) if settings.judge else None

        async def clip() -> ClipPool | None:
            return await ClipPool.start(settings.clip, folder, options) if settings.clip else None

        return cls(settings, *await asyncio.gather(judge(), clip()))

    async def score(self, sample: DrivingSample, rollout: Rollout) -> ScoredRollout:
        """Score one rollout; one whose scorer takes too long is masked, never a zero."""
        began = time.time()
        score = await self.router.score(sample, rollout.text, rollout.finish_reason)
        return ScoredRollout(rollout, score, scoring_started_at=began, scored_at=time.time())

    async def complete(self, sample: DrivingSample, group: Sequence[ScoredRollout]) -> list[ScoredRollout]:
        """A group whose last rollout is scored: what its responses are worth beside each other."""
        texts, scores = [one.rollout.text for one in group], [one.score for one in group]
        complete = await asyncio.to_thread(self.router.complete, sample, texts, scores)  # a user's may take its time
        return [replace(one, score=score) for one, score in zip(group, complete, strict=True)]

    @property
    def metrics(self) -> dict[str, float]:
        """What became of the requests to judge and CLIP so far, for the journal."""
        judged = self.judge.counts.metrics("judge") if self.judge else {}
        return judged | (self.clip.counts.metrics("clip") if self.clip else {})

    async def stop(self) -> None:
        """Let go of judge, CLIP and what runs of a user's functions."""
        self.router.close()
        for pool in (self.judge, self.clip):
            if pool is not None:
                await pool.stop()
