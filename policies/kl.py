"""Estimates of KL(pi_theta || pi_ref) from single samples, and the controller that keeps it near a target. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

KL_CLAMP = 10.0
"""The k3 estimate of one token is clamped to +- this: a token beyond it has no gradient (verl, OpenRLHF)."""


def kl_estimate(
    logprobs_R_T: Tensor, reference_R_T: Tensor, estimator: Literal["k1", "k2", "k3"], clamp: float
) -> Tensor:
    """The KL of each token, with D = ref - lp clamped to +- `clamp` (http://joschu.net/blog/kl-approx.html).

    k1 = -D, unbiased, of either sign; k2 = D^2 / 2; k3 = exp(D) - D - 1, unbiased and never negative.
    """
    difference = (reference_R_T - logprobs_R_T).clamp(-clamp, clamp)
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    return (torch.exp(difference) - difference - 1.0).clamp(-KL_CLAMP, KL_CLAMP)


@dataclass
class AdaptiveKl:
    """The weight of a KL that is part of the reward, kept so that the KL stays near a target (arXiv 1909.08593)."""

    beta: float
    """The weight now."""
    target: float
    """The mean KL of a response, in nats, that is wanted."""
    horizon: float
    """Responses over which a lasting error of 20 % would change the weight by a fifth."""

    def update(self, kl: float, responses: int) -> float:
        """Adapt the weight to the KL of a batch: beta (1 + clip(KL / target - 1, +-0.2) n / horizon); returns it."""
        error = min(0.2, max(-0.2, kl / self.target - 1.0))
        self.beta *= 1.0 + error * responses / self.horizon
        return self.beta
