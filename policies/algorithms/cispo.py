"""CISPO: clipped importance-sampling weights (MiniMax-M1, arXiv 2506.13585)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import GroupRelative
from policies.algorithms.settings import Aggregation, NormalisedOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, policy_loss, token_ratio, weighted_surrogate


class CispoSettings(NormalisedOptions):
    """Weights up to 5 and without a lower bound, every token of the batch weighs the same, no KL."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as in the paper `token-mean`."""
    clip_low: float = Field(1.0, ge=0)
    """The weight is clipped below at 1 - clip_low; 1 sets no bound."""
    clip_high: float = Field(4.0, ge=0)
    """The weight is clipped above at 1 + clip_high."""
    kl_beta: float = Field(0.0, ge=0)
    """Weight of the KL term towards the reference policy; 0 loads no reference policy."""


class Cispo(GroupRelative[CispoSettings]):
    """GRPO's advantages; the clipped ratio is a constant weight on the log-probability, so every token keeps its
    gradient. Peers differ: this form clips on both sides around 1, as verl; TRL caps above at an absolute value.
    """

    Settings = CispoSettings

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """A_i = (R_i - mean) / (std + epsilon) (Eq. 2)."""
        return group_advantages(rewards, "normalised", self.settings.advantage_epsilon)

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """sum_i sum_t -A sg(clip(rho, 1 - low, 1 + high)) lp / tokens of the batch (Eq. 4-5)."""
        options = self.settings
        ratio_R_T = token_ratio(seen, options.log_ratio_clamp)
        surrogate_R_T = weighted_surrogate(
            ratio_R_T, seen.advantages_R_T, seen.logprobs_R_T, options.clip_low, options.clip_high
        )
        return policy_loss(seen, ratio_R_T, surrogate_R_T, options, counts)
