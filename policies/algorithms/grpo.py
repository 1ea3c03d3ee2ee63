"""GRPO, as AutoDriveRL trains with it (its Eq. 2-3; DeepSeekMath, arXiv 2402.03300)."""

from __future__ import annotations

from collections.abc import Sequence

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import ClippedRatioOptions, NormalisedOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class GrpoSettings(ClippedRatioOptions, NormalisedOptions):
    """Clip 1 +- 0.2, every response weighs the same, KL (k3) in the loss with weight 0.01."""


class Grpo(GroupRelative[GrpoSettings]):
    """A response is measured by its group's mean and deviation."""

    Settings = GrpoSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = (R_i - mean) / (std + epsilon) (Eq. 3)."""
        return group_advantages(rewards, "normalised", self.settings.advantage_epsilon)

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """mean_i mean_t [max(-A rho, -A clip(rho, 1 - low, 1 + high)) + beta KL], rho = exp(lp - old) (Eq. 2)."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
