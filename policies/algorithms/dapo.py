"""DAPO: decoupled clip and dynamic sampling (arXiv 2503.14476)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import Aggregation, ClippedRatioOptions, NormalisedOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class DapoSettings(ClippedRatioOptions, NormalisedOptions):
    """Clip 0.8 to 1.28, every token of the batch weighs the same, no KL."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as in the paper `token-mean`."""
    clip_high: float = Field(0.28, ge=0)
    """The ratio is clipped above at 1 + clip_high, farther than below ("clip-higher", Eq. 10)."""
    kl_beta: float = Field(0.0, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""
    refills: int = Field(8, ge=0)
    """Dynamic sampling (Eq. 11): how often, at most, groups with equal rewards are replaced by those of fresh
    questions before a batch is learnt from; 0 learns from what there is."""
    overlong_buffer: float = Field(0.2, ge=0, lt=1)
    """Soft punishment of long responses (Eq. 13): over the last share of `rollout.max_tokens` the reward falls by up
    to 100 points; 0 has none."""


class Dapo(GroupRelative[DapoSettings]):
    """GRPO's advantages, of rewards that fall with excess length; groups that teach nothing are drawn anew."""

    Settings = DapoSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = (R_i - mean) / (std + epsilon) (Eq. 9)."""
        return group_advantages(rewards, "normalised", self.settings.advantage_epsilon)

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """sum_i sum_t max(-A rho, -A clip(rho, 1 - low, 1 + high)) / tokens of the batch (Eq. 8, 12)."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
