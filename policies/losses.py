"""Losses: pure functions of log-probabilities and values, normalised over the global batch.

Shapes: R responses in this micro-batch, T tokens of the longest. Every loss is a sum over this micro-batch divided by
a count over the *global* batch (all micro-batches, all ranks), so the sum over micro-batches and ranks is the loss,
and its gradient does not depend on how the batch was cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.kl import kl_estimate
from policies.settings import AlgorithmSettings


@dataclass(frozen=True)
class PolicyLossInput:
    """What the policy loss sees."""

    logprobs_R_T: Tensor
    """log pi_theta of the sampled tokens; carries the gradient."""
    old_logprobs_R_T: Tensor
    """The same at the moment the batch was first trained on."""
    rollout_logprobs_R_T: Tensor
    """What the rollout engine reported for the same tokens."""
    reference_logprobs_R_T: Tensor | None
    """log pi_ref; None when the loss has no KL term."""
    advantages_R_T: Tensor
    """The advantage of each token; of one column where all tokens of a response share theirs."""
    mask_R_T: Tensor
    """1.0 on response tokens that count, else 0.0."""


@dataclass(frozen=True)
class GlobalCounts:
    """What the global batch holds, over all micro-batches and ranks: the denominators."""

    responses: int
    """Responses with at least one token that counts."""
    tokens: int
    """Tokens that count."""
    response_cap: int = 0
    """Most tokens a response may have; read by `token-sum-norm` alone."""


@dataclass(frozen=True)
class LossResult:
    """A loss and the token sums behind its metrics; divide the sums by the global token count."""

    loss: Tensor
    """Scalar; the sum over micro-batches and ranks is the loss of the global batch."""
    token_sums: dict[str, float]
    """Sums over the tokens of this micro-batch: `kl`, `clip_share`, `truncated_share`, `logprob_gap_mean`."""
    maxima: dict[str, float]
    """Largest values in this micro-batch: `logprob_gap_max`."""

    def plus(self, other: LossResult, weight: float) -> LossResult:
        """The sum of this loss and `weight` times another, with the metrics of both."""
        return LossResult(
            self.loss + weight * other.loss, self.token_sums | other.token_sums, self.maxima | other.maxima
        )


def policy_loss(batch: PolicyLossInput, settings: AlgorithmSettings, counts: GlobalCounts) -> LossResult:
    """The policy loss, with a KL term towards the reference policy where there is one (AutoDriveRL Eq. 2).

    Per token, with the ratio rho = exp(lp - old) (see `policy_ratio`), its clipped form c = clip(rho, 1 - low,
    1 + high), and the importance weight w (see `importance_weight`):

        L = w * surrogate + beta * KL

    - `clipped-ratio` (PPO, arXiv 1707.06347 Eq. 7): surrogate = max(-A rho, -A c); with `dual_clip` d, where A < 0,
      at most -A d (arXiv 1912.09729 Eq. 5).
    - `clipped-weight` (CISPO, arXiv 2506.13585 Eq. 4): surrogate = -A lp sg(c). Peers differ: this form clips on both
      sides around 1, as verl does; TRL caps above at an absolute value.

    The importance weight multiplies the policy term only, never the KL.
    """
    mask, clamp = batch.mask_R_T, settings.log_ratio_clamp
    ratio_R_T = policy_ratio(batch, settings)
    clipped_R_T = ratio_R_T.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
    unclipped_loss_R_T, clipped_loss_R_T = -batch.advantages_R_T * ratio_R_T, -batch.advantages_R_T * clipped_R_T
    if settings.objective == "clipped-weight":
        loss_R_T = -batch.advantages_R_T * clipped_R_T.detach() * batch.logprobs_R_T
    else:
        loss_R_T = torch.maximum(unclipped_loss_R_T, clipped_loss_R_T)
        if settings.dual_clip is not None:
            bound_R_T = -batch.advantages_R_T * settings.dual_clip
            loss_R_T = torch.where(batch.advantages_R_T < 0, torch.minimum(loss_R_T, bound_R_T), loss_R_T)

    weight_R_T, truncated_R_T = importance_weight(batch, settings)
    loss_R_T = loss_R_T * weight_R_T

    kl_sum = 0.0
    if batch.reference_logprobs_R_T is not None:
        kl_R_T = kl_estimate(batch.logprobs_R_T, batch.reference_logprobs_R_T, settings.kl_estimator, clamp)
        kl_sum = _sum(kl_R_T, mask)
        loss_R_T = loss_R_T + settings.kl_beta * kl_R_T

    gap_R_T = torch.where(mask > 0, (batch.old_logprobs_R_T - batch.rollout_logprobs_R_T).abs(), 0.0)
    return LossResult(
        loss=aggregate(loss_R_T, mask, settings.aggregation, counts),
        token_sums={
            "kl": kl_sum,
            "clip_share": _sum(clipped_loss_R_T > unclipped_loss_R_T, mask),
            "truncated_share": _sum(truncated_R_T, mask),
            "logprob_gap_mean": float(gap_R_T.sum()),
        },
        maxima={"logprob_gap_max": float(gap_R_T.max()) if gap_R_T.numel() else 0.0},
    )


def policy_ratio(batch: PolicyLossInput, settings: AlgorithmSettings) -> Tensor:
    """rho (R, T): exp(lp - old) of each token, or of its response's mean log-ratio (GSPO, arXiv 2507.18071 Eq. 7)."""
    log_ratio_R_T = batch.logprobs_R_T - batch.old_logprobs_R_T
    if settings.ratio == "sequence":
        lengths_R_1 = batch.mask_R_T.sum(dim=1, keepdim=True).clamp(min=1.0)
        inside_R_T = torch.where(batch.mask_R_T > 0, log_ratio_R_T, 0.0)
        log_ratio_R_T = (inside_R_T.sum(dim=1, keepdim=True) / lengths_R_1).expand_as(log_ratio_R_T)
    return torch.exp(log_ratio_R_T.clamp(-settings.log_ratio_clamp, settings.log_ratio_clamp))


def importance_weight(batch: PolicyLossInput, settings: AlgorithmSettings) -> tuple[Tensor, Tensor]:
    """The weight of each token for what engine and learner compute differently, and which weights were cut or masked.

    w = exp(old - rollout), detached: `truncate` gives min(w, cap) (https://fengyao.notion.site/off-policy-rl), `bound`
    clip(w, floor, cap), `mask` 0 outside [floor, cap] (IcePop), `none` 1. Where `old` was taken from the rollout engine
    it is 1 too.
    """
    mismatch_R_T = (batch.old_logprobs_R_T - batch.rollout_logprobs_R_T).detach()
    weight_R_T = torch.exp(mismatch_R_T.clamp(-settings.log_ratio_clamp, settings.log_ratio_clamp))
    above_R_T = weight_R_T > settings.importance_cap
    if settings.importance == "none":
        return torch.ones_like(weight_R_T), torch.zeros_like(above_R_T)
    if settings.importance == "truncate":
        return weight_R_T.clamp(max=settings.importance_cap), above_R_T
    outside_R_T = above_R_T | (weight_R_T < settings.importance_floor)
    if settings.importance == "bound":
        return weight_R_T.clamp(settings.importance_floor, settings.importance_cap), outside_R_T
    return weight_R_T.masked_fill(outside_R_T, 0.0), outside_R_T


def value_loss(
    values_R_T: Tensor, old_values_R_T: Tensor, returns_R_T: Tensor, mask_R_T: Tensor, clip: float, counts: GlobalCounts
) -> LossResult:
    """The critic's clipped loss: the token mean of max((V - G)^2, (clip(V, V_old +- clip) - G)^2) / 2.

    `token_sums` has `value_clip_share` and `value_error`, the squared error before clipping.
    """
    near_R_T = torch.minimum(torch.maximum(values_R_T, old_values_R_T - clip), old_values_R_T + clip)
    error_R_T, near_error_R_T = (values_R_T - returns_R_T).square(), (near_R_T - returns_R_T).square()
    loss_R_T = 0.5 * torch.maximum(error_R_T, near_error_R_T)
    sums = {
        "value_error": _sum(error_R_T, mask_R_T),
        "value_clip_share": _sum(near_error_R_T > error_R_T, mask_R_T),
    }
    return LossResult(aggregate(loss_R_T, mask_R_T, "token-mean", counts), sums, maxima={})


def supervised_loss(logprobs_R_T: Tensor, mask_R_T: Tensor, counts: GlobalCounts) -> LossResult:
    """Token cross-entropy on the answers, mean over the tokens of the global batch."""
    return LossResult(aggregate(-logprobs_R_T, mask_R_T, "token-mean", counts), token_sums={}, maxima={})


def aggregate(loss_R_T: Tensor, mask_R_T: Tensor, how: str, counts: GlobalCounts) -> Tensor:
    """This micro-batch's share of the global mean.

    `token-mean`: sum over tokens / tokens of the global batch. `seq-mean`: sum over responses of the mean over their
    tokens / responses of the global batch; responses without a token that counts do not count. `token-sum`: sum over
    tokens / responses of the global batch. `token-sum-norm`: the same / most tokens a response may have.
    """
    # `where`, not a product: what stands outside the mask may be infinite, and 0 * inf is NaN.
    masked_R_T = torch.where(mask_R_T > 0, loss_R_T, 0.0)
    if how == "token-mean":
        return masked_R_T.sum() / max(counts.tokens, 1)
    if how == "token-sum":
        return masked_R_T.sum() / max(counts.responses, 1)
    if how == "token-sum-norm":
        return masked_R_T.sum() / max(counts.responses * counts.response_cap, 1)
    lengths_R = mask_R_T.sum(dim=1).clamp(min=1.0)
    return (masked_R_T.sum(dim=1) / lengths_R).sum() / max(counts.responses, 1)


def _sum(values_R_T: Tensor, mask_R_T: Tensor) -> float:
    return float(torch.where(mask_R_T > 0, values_R_T.detach().to(mask_R_T.dtype), 0.0).sum())
