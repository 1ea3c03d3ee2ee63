"""GSPO: group sequence policy optimization (arXiv 2507.18071)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import ClippedRatioOptions, NormalisedOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, sequence_ratio


class GspoSettings(ClippedRatioOptions, NormalisedOptions):
    """Clip 1 - 3e-4 to 1 + 4e-4, every response weighs the same, no KL."""

    clip_low: float = Field(3e-4, ge=0)
    """The ratio is clipped below at 1 - clip_low; that of a whole response strays little (Sec. 5.1)."""
    clip_high: float = Field(4e-4, ge=0)
    """The ratio is clipped above at 1 + clip_high."""
    kl_beta: float = Field(0.0, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""


class Gspo(GroupRelative[GspoSettings]):
    """GRPO's advantages, and one ratio for a whole response."""

    Settings = GspoSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = (R_i - mean) / (std + epsilon) (Eq. 6)."""
        return group_advantages(rewards, "normalised", self.settings.advantage_epsilon)

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """mean_i max(-A s_i, -A clip(s_i)) (Eq. 5), s_i = exp(mean_t (lp - old)) (Eq. 7)."""
        ratio_R_T = sequence_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
