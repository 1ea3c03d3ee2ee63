"""Dr. GRPO: GRPO done right, without the biases of its two divisions (arXiv 2503.20783)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import Aggregation, ClippedRatioOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class DrGrpoSettings(ClippedRatioOptions):
    """Clip 1 +- 0.2, every token weighs the same whatever its response's length, no KL."""

    aggregation: Aggregation = "token-sum-norm"
    """How tokens make a loss: `seq-mean`, `token-mean`, `token-sum`, or as in the paper `token-sum-norm`: their sum /
    (responses x rollout.max_tokens)."""
    kl_beta: float = Field(0.0, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""


class DrGrpo(GroupRelative[DrGrpoSettings]):
    """A response is measured by its group's mean alone: questions of little spread weigh no more than others."""

    Settings = DrGrpoSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = R_i - mean (Sec. 3.2)."""
        return group_advantages(rewards, "centred")

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """sum_i sum_t max(-A rho, -A clip(rho, 1 - low, 1 + high)) / (responses x length cap) (Sec. 3.2)."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
