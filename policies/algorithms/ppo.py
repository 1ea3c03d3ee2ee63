"""PPO with a critic and the KL in the reward (arXiv 1707.06347; the KL and its controller: arXiv 1909.08593)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from policies.algorithms.policy_gradient import WithCritic
from policies.algorithms.settings import Aggregation, CriticOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class PpoSettings(CriticOptions):
    """Clip 1 +- 0.2, every token of the batch weighs the same, KL (k1) in the reward with weight 0.01, lambda 0.95."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a policy loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as usual `token-mean`."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How the KL of one token is estimated from its two log-probabilities."""
    trace: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation; 1 is the return less the value."""
    whiten: bool = True
    """Bring the advantages to mean 0 and deviation 1 over the batch."""


class Ppo(WithCritic[PpoSettings]):
    """Generalised advantages (Eq. 11), whitened over the batch, of rewards r_t = R [t is the last] - beta KL_t."""

    Settings = PpoSettings

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """L_CLIP (Eq. 7) + value_weight L_VF (Eq. 9, the value's step clipped too)."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        policy = clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
        return policy.plus(self.value_loss(seen, counts), self.settings.value_weight)
