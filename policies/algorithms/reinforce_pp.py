"""REINFORCE++, and its form with the group's mean as a baseline (arXiv 2501.03262)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from policies.advantages import group_advantages
from policies.algorithms.policy_gradient import OverBatch
from policies.algorithms.settings import Aggregation, OverBatchOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class ReinforcePpSettings(OverBatchOptions):
    """Clip 1 +- 0.2, every token of the batch weighs the same, KL (k1) in the reward with weight 0.01."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as in the paper `token-mean`."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How the KL of one token is estimated from its two log-probabilities."""


class ReinforcePp(OverBatch[ReinforcePpSettings]):
    """A token's return, its KL paid, measured by all tokens of the batch: A = (G - mean) / std."""

    Settings = ReinforcePpSettings

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """PPO's clipped ratio, the mean over all tokens."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)


class ReinforcePpBaselineSettings(OverBatchOptions):
    """Clip 1 +- 0.2, every token of the batch weighs the same, KL (k2) in the loss with weight 0.01."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as in the paper `token-mean`."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k2"
    """How the KL of one token is estimated from its two log-probabilities."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Where the KL counts: as a term of the loss, or off the reward of each token."""


class ReinforcePpBaseline(OverBatch[ReinforcePpBaselineSettings]):
    """The same of rewards less their group's mean."""

    Settings = ReinforcePpBaselineSettings
    compares_group = True

    def measured(self, rewards: Sequence[float | None]) -> list[float | None]:
        """R_i - mean; the division by the deviation is left to the batch."""
        return group_advantages(rewards, "centred")

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """PPO's clipped ratio + beta k2, the mean over all tokens."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        return clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
