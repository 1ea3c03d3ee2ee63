"""An algorithm of one's own, from the protocol alone: REINFORCE with the group's median as a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from policies.algorithms.algorithm import Advantages, Rows, Scored, Total
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, aggregate


class BestHalfSettings(BaseModel):
    """What the recipe may set."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    strength: float = 1.0
    """What an advantage is multiplied by."""


class BestHalf:
    """A response of the better half of its group is made likelier, one of the other half less likely."""

    Settings = BestHalfSettings
    settings: BestHalfSettings
    temperature: float | None = None
    reference: Literal["none"] = "none"
    has_critic = False
    compares_group = True
    over_batch = False
    kl_beta = 0.0
    updates_per_batch = 1
    refills = 0

    def __init__(self, settings: BestHalfSettings) -> None:
        self.settings = settings

    def reward(self, score: float, length: int, cap: int) -> float:
        """The score itself."""
        return score

    def wants_refill(self, rewards: Sequence[float | None]) -> bool:
        """Groups stay as they were drawn."""
        return False

    def keeps(self, rewards: Sequence[float | None]) -> bool:
        """Every group is learnt from."""
        return True

    def credits(self, group: Sequence[Scored]) -> list[tuple[float, ...] | None]:
        """Each token of a response has what the response has over the median."""
        known = [one.reward for one in group if one.reward is not None]
        if not known:
            return [None] * len(group)
        middle, strength = statistics.median(known), self.settings.strength
        return [None if one.reward is None else (strength * (one.reward - middle),) * one.length for one in group]

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """The credits are the advantages already."""
        return Advantages(rows.credits_R_T, metrics={})

    def next_kl_beta(self, kl_beta: float, kl: float, responses: int) -> float:
        """There is no KL."""
        return kl_beta

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """-A log pi, the mean over the responses of the mean over their tokens."""
        loss = aggregate(-seen.advantages_R_T * seen.logprobs_R_T, seen.mask_R_T, "seq-mean", counts)
        return LossResult(loss, token_sums={}, maxima={})
