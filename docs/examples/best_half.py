"""An algorithm of your own, against the protocol alone: REINFORCE with the group's median as a baseline.

algorithm: {name: "docs.examples.best_half:BestHalf", options: {strength: 2.0}}
"""

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
    """The better half of a group becomes likelier, the other half less likely."""

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
        """Follow these options."""
        self.settings = settings

    def reward(self, score: float, length: int, cap: int) -> float:
        """The score; length costs nothing."""
        return score

    def wants_refill(self, rewards: Sequence[float | None]) -> bool:
        """Never."""
        return False

    def keeps(self, rewards: Sequence[float | None]) -> bool:
        """Always."""
        return True

    def credits(self, group: Sequence[Scored]) -> list[tuple[float, ...] | None]:
        """A_i = strength (R_i - median), for each of its tokens."""
        known = [one.reward for one in group if one.reward is not None]
        if not known:
            return [None] * len(group)
        middle, strength = statistics.median(known), self.settings.strength
        return [None if one.reward is None else (strength * (one.reward - middle),) * one.length for one in group]

    def advantages(self, rows: Rows, kl_beta: float, total: Total) -> Advantages:
        """The credits."""
        return Advantages(rows.credits_R_T, metrics={})

    def next_kl_beta(self, kl_beta: float, kl: float, responses: int) -> float:
        """The same."""
        return kl_beta

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """mean_i mean_t -A lp."""
        loss = aggregate(-seen.advantages_R_T * seen.logprobs_R_T, seen.mask_R_T, "seq-mean", counts)
        return LossResult(loss, token_sums={}, maxima={})
