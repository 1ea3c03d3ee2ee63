"""RLOO: REINFORCE, leave one out (arXiv 2402.14740)."""

from __future__ import annotations

from collections.abc import Sequence

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import ClippedRatioOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class RlooSettings(ClippedRatioOptions):
    """Clip 1 +- 0.2, every response weighs the same, KL (k3) in the loss with weight 0.01."""


class Rloo(GroupRelative[RlooSettings]):
    """A response is measured by the mean of the others."""

    Settings = RlooSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = R_i - mean of the other responses (Eq. 8)."""
        return group_advantages(rewards, "leave-one-out")

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """On the first update -A lp's gradient, as in the paper; the clipped ratio bounds later ones."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
