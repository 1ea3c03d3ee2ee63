"""A2C, as the BDD-OIA project trains with it (its 2.2; A3C, arXiv 1602.01783, with synchronous updates)."""

from __future__ import annotations

from typing import Literal

from policies.algorithms.policy_gradient import WithCritic
from policies.algorithms.settings import Aggregation, CriticOptions
from policies.losses import GlobalCounts, LossResult, PolicyLossInput, clipped_ratio_loss, token_ratio


class A2cSettings(CriticOptions):
    """Every token of the batch weighs the same, KL (k1) in the reward with weight 0.01, returns less values."""

    aggregation: Aggregation = "token-mean"
    """How tokens make a policy loss: `seq-mean`, `token-sum`, `token-sum-norm`, or as usual `token-mean`."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How the KL of one token is estimated from its two log-probabilities."""


class A2c(WithCritic[A2cSettings]):
    """A_t = G_t - V_w(s_t), of rewards that may come in increments: r_(k+1) = R1(T_(k+1)) - R1(T_k)."""

    Settings = A2cSettings

    def loss(self, seen: PolicyLossInput, counts: GlobalCounts) -> LossResult:
        """-A lp's gradient on the first update (the clipped ratio holds later ones) + value_weight (G - V)^2 / 2."""
        ratio_R_T = token_ratio(seen, self.settings.log_ratio_clamp)
        policy = clipped_ratio_loss(seen, ratio_R_T, self.settings, counts)
        return policy.plus(self.value_loss(seen, counts), self.settings.value_weight)
