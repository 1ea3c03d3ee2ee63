"""`Credit`: what the scored responses of a group are worth to the algorithm. In the driver, as a group completes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from actors.rollout.rollout import Group, ScoredRollout
from policies.algorithms.algorithm import Algorithm, Scored
from policies.prompt import PromptEncoder


@dataclass(frozen=True)
class Credit:
    """Values groups as one algorithm does."""

    algorithm: Algorithm
    cap: int
    """Most tokens a response may have."""
    encoder: PromptEncoder
    """Says at which token a sentence ends, where a score came sentence by sentence."""

    def assigned(self, group: Group) -> Group:
        """The group with what its responses are worth."""
        scored = [self._scored(one) for one in group.rollouts]
        credits = self.algorithm.credits(scored)
        advantages = (
            () if self.algorithm.over_batch else tuple(statistics.fmean(own) if own else None for own in credits)
        )
        rewards = tuple(one.reward for one in scored)
        return replace(group, shaped_rewards=rewards, credits=tuple(credits), advantages=advantages)

    def _scored(self, one: ScoredRollout) -> Scored:
        token_ids, score = one.rollout.token_ids, one.score
        if score.failure is not None:
            return Scored(None, len(token_ids))
        reward = self.algorithm.reward(score.value / 100.0, len(token_ids), self.cap)
        if not score.increments:
            return Scored(reward, len(token_ids))
        ends = self.encoder.tokens_until(token_ids, [part.end for part in score.increments])
        return Scored(reward, len(token_ids), tuple(part.gain / 100.0 for part in score.increments), tuple(ends))
