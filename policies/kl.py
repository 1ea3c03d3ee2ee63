"""Estimates of KL(pi_theta || pi_ref) from single samples, and the controller that keeps it near a target. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
KL_CLAMP = 10.0
"""The k3 estimate of one token is clamped to +- this: a token beyond it has no gradient (verl, OpenRLHF)."""


def kl_estimate(logprobs_R_T: Tensor, reference_R_T: Tensor, estimator: Estimator, clamp: float) -> Tensor:
    """The KL of each token, with D = ref - lp clamped to +- `clamp` (http://joschu.net/blog/kl-approx.html).

    k1 = -D, unbiased, of either sign; k2 = D^2 / 2; k3 = exp(D) - D - 1, unbiased and never negative.
    """
    difference = (reference_R_T - logprobs_R_T).clamp(-clamp, clamp)
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    return (difference.exp() - difference - 1.0).clamp(-KL_CLAMP, KL_CLAMP)


def adapted_weight(beta: float, kl: float, responses: int, target: float, horizon: float) -> float:
    """The weight of a KL that is part of the reward, moved towards a target of it (arXiv 1909.08593).

    beta (1 + clip(KL / target - 1, +-0.2) n / horizon).

    Args:
        beta: the weight now.
        kl: the mean KL of a response of the last batch, in nats.
        responses: how many it had.
        target: the KL that is wanted.
        horizon: responses over which a lasting error of 20 % would change the weight by a fifth.
    """
    error = min(0.2, max(-0.2, kl / target - 1.0))
    return beta * (1.0 + error * responses / horizon)
