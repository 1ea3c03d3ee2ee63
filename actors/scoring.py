"""`Scorers`: gives each finished rollout its score, the moment it ends, without holding up generation."""

from __future__ import annotations

import asyncio
import time

from actors.rollout import Rollout, ScoredRollout
from data.sample import DrivingSample
from rewards.route import Router
from rewards.score import Score
from rewards.settings import RewardSettings


class Scorers:
    """Runs the recipe's scorers beside the event loop."""

    def __init__(self, settings: RewardSettings) -> None:
        """Resolve the scorers of every route. Raises `RewardError` for one that does not exist."""
        self._router, self._timeout_s = Router(settings), settings.timeout_s

    async def score(self, sample: DrivingSample, rollout: Rollout) -> ScoredRollout:
        """Score one rollout; one that takes too long is masked, never a zero."""
        began = time.time()
        scoring = asyncio.to_thread(self._router.score, sample, rollout.text, rollout.finish_reason)
        try:
            score = await asyncio.wait_for(scoring, self._timeout_s)
        except TimeoutError:
            score = Score(0.0, failure="scoring_timeout")
        return ScoredRollout(rollout, score, scoring_started_at=began)
