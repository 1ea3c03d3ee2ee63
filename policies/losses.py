"""Losses: pure functions of log-probabilities and values, normalised over the global batch.

Shapes: R responses in this micro-batch, T tokens of the longest. Every loss is a sum over this micro-batch divided by
a count over the *global* batch (all micro-batches, all ranks), so the sum over micro-batches and ranks is the loss,
and its gradient does not depend on how the batch was cut.

Like `advantages` and `kl` this module asks tensors for their own methods and does not import torch: the files of the
algorithms import it, and a recipe imports them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.algorithms.settings import Aggregation, ClippedRatioOptions, PolicyOptions
from policies.kl import kl_estimate

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PolicyLossInput:
    """What a loss sees of one micro-batch."""

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
    values_R_T: Tensor | None = None
    """The critic's; carries the gradient. None without one."""
    old_values_R_T: Tensor | None = None
    """The same before the first update on this batch."""
    returns_R_T: Tensor | None = None
    """What the critic learns to expect of each token."""


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
    """Sums over the tokens of this micro-batch: `kl`, `clip_share`, `truncated_share`, `rollout_gap_mean`."""
    maxima: dict[str, float]
    """Largest values in this micro-batch: `rollout_gap_max`."""

    def plus(self, other: LossResult, weight: float) -> LossResult:
        """The sum of this loss and `weight` times another, with the metrics of both."""
        return LossResult(
            self.loss + weight * other.loss, self.token_sums | other.token_sums, self.maxima | other.maxima
        )


def token_ratio(seen: PolicyLossInput, clamp: float) -> Tensor:
    """rho (R, T): exp(lp - old) of each token, its exponent clamped to +- `clamp`."""
    return (seen.logprobs_R_T - seen.old_logprobs_R_T).clamp(-clamp, clamp).exp()


def sequence_ratio(seen: PolicyLossInput, clamp: float) -> Tensor:
    """rho (R, T): exp of the mean of lp - old over the response, the same for all its tokens (GSPO Eq. 7)."""
    log_ratio_R_T = seen.logprobs_R_T - seen.old_logprobs_R_T
    lengths_R_1 = seen.mask_R_T.sum(dim=1, keepdim=True).clamp(min=1.0)
    inside_R_T = log_ratio_R_T.where(seen.mask_R_T > 0, 0.0)
    mean_R_1 = inside_R_T.sum(dim=1, keepdim=True) / lengths_R_1
    return mean_R_1.expand_as(log_ratio_R_T).clamp(-clamp, clamp).exp()


def clipped_surrogate(
    ratio_R_T: Tensor, advantages_R_T: Tensor, low: float, high: float, dual_clip: float | None = None
) -> Tensor:
    """max(-A rho, -A clip(rho, 1 - low, 1 + high)) of each token (PPO, arXiv 1707.06347 Eq. 7).

    With `dual_clip` d, where A < 0, at most -A d (arXiv 1912.09729 Eq. 5).
    """
    clipped_R_T = ratio_R_T.clamp(1.0 - low, 1.0 + high)
    loss_R_T = (-advantages_R_T * ratio_R_T).maximum(-advantages_R_T * clipped_R_T)
    if dual_clip is None:
        return loss_R_T
    return loss_R_T.minimum(-advantages_R_T * dual_clip).where(advantages_R_T < 0, loss_R_T)


def weighted_surrogate(
    ratio_R_T: Tensor, advantages_R_T: Tensor, logprobs_R_T: Tensor, low: float, high: float
) -> Tensor:
    """-A lp sg(clip(rho, 1 - low, 1 + high)) of each token: every one keeps its gradient (CISPO Eq. 4)."""
    return -advantages_R_T * ratio_R_T.clamp(1.0 - low, 1.0 + high).detach() * logprobs_R_T


def clipped_ratio_loss(
    seen: PolicyLossInput, ratio_R_T: Tensor, options: ClippedRatioOptions, counts: GlobalCounts
) -> LossResult:
    """`policy_loss` of the clipped surrogate of a ratio."""
    low, high = options.clip_low, options.clip_high
    surrogate_R_T = clipped_surrogate(ratio_R_T, seen.advantages_R_T, low, high, options.dual_clip)
    return policy_loss(seen, ratio_R_T, surrogate_R_T, options, counts)


def policy_loss(
    seen: PolicyLossInput, ratio_R_T: Tensor, surrogate_R_T: Tensor, options: PolicyOptions, counts: GlobalCounts
) -> LossResult:
    """The mean of w * surrogate + beta * KL, the KL where there is a reference policy (AutoDriveRL Eq. 2).

    The importance weight w (see `importance_weight`) multiplies the policy term only, never the KL.

    Args:
        seen: the micro-batch.
        ratio_R_T: the probability ratio of each token, for the share that its clip holds back.
        surrogate_R_T: the policy term of each token.
        options: clip, KL, importance correction and aggregation.
        counts: the denominators.
    """
    mask = seen.mask_R_T
    weight_R_T, truncated_R_T = importance_weight(seen, options)
    loss_R_T = surrogate_R_T * weight_R_T
    kl_sum = 0.0
    if seen.reference_logprobs_R_T is not None:
        clamp = options.log_ratio_clamp
        kl_R_T = kl_estimate(seen.logprobs_R_T, seen.reference_logprobs_R_T, options.kl_estimator, clamp)
        kl_sum = _sum(kl_R_T, mask)
        loss_R_T = loss_R_T + options.kl_beta * kl_R_T
    clipped_R_T = ratio_R_T.clamp(1.0 - options.clip_low, 1.0 + options.clip_high)
    held_back_R_T = -seen.advantages_R_T * clipped_R_T > -seen.advantages_R_T * ratio_R_T
    gap_R_T = (seen.old_logprobs_R_T - seen.rollout_logprobs_R_T).abs().where(mask > 0, 0.0)
    return LossResult(
        loss=aggregate(loss_R_T, mask, options.aggregation, counts),
        token_sums={
            "kl": kl_sum,
            "clip_share": _sum(held_back_R_T, mask),
            "truncated_share": _sum(truncated_R_T, mask),
            "rollout_gap_mean": float(gap_R_T.sum()),
        },
        maxima={"rollout_gap_max": float(gap_R_T.max()) if gap_R_T.numel() else 0.0},
    )


def importance_weight(seen: PolicyLossInput, options: PolicyOptions) -> tuple[Tensor, Tensor]:
    """The weight of each token for what engine and learner compute differently, and which weights were cut or masked.

    w = exp(old - rollout), detached: `truncate` gives min(w, cap) (https://fengyao.notion.site/off-policy-rl), `bound`
    clip(w, floor, cap), `mask` 0 outside [floor, cap] (IcePop), `none` 1. Where `old` was taken from the rollout engine
    it is 1 too.
    """
    mismatch_R_T = (seen.old_logprobs_R_T - seen.rollout_logprobs_R_T).detach()
    weight_R_T = mismatch_R_T.clamp(-options.log_ratio_clamp, options.log_ratio_clamp).exp()
    above_R_T = weight_R_T > options.importance_cap
    if options.importance == "none":
        return weight_R_T.new_ones(weight_R_T.shape), above_R_T & False
    if options.importance == "truncate":
        return weight_R_T.clamp(max=options.importance_cap), above_R_T
    outside_R_T = above_R_T | (weight_R_T < options.importance_floor)
    if options.importance == "bound":
        return weight_R_T.clamp(options.importance_floor, options.importance_cap), outside_R_T
    return weight_R_T.masked_fill(outside_R_T, 0.0), outside_R_T


def value_loss(
    values_R_T: Tensor, old_values_R_T: Tensor, returns_R_T: Tensor, mask_R_T: Tensor, clip: float, counts: GlobalCounts
) -> LossResult:
    """The critic's clipped loss: the token mean of max((V - G)^2, (clip(V, V_old +- clip) - G)^2) / 2.

    `token_sums` has `value_clip_share` and `value_error`, the squared error before clipping.
    """
    near_R_T = values_R_T.maximum(old_values_R_T - clip).minimum(old_values_R_T + clip)
    error_R_T, near_error_R_T = (values_R_T - returns_R_T).square(), (near_R_T - returns_R_T).square()
    loss_R_T = 0.5 * error_R_T.maximum(near_error_R_T)
    sums = {
        "value_error": _sum(error_R_T, mask_R_T),
        "value_clip_share": _sum(near_error_R_T > error_R_T, mask_R_T),
    }
    return LossResult(aggregate(loss_R_T, mask_R_T, "token-mean", counts), sums, maxima={})


def supervised_loss(logprobs_R_T: Tensor, mask_R_T: Tensor, counts: GlobalCounts) -> LossResult:
    """Token cross-entropy on the answers, mean over the tokens of the global batch."""
    return LossResult(aggregate(-logprobs_R_T, mask_R_T, "token-mean", counts), token_sums={}, maxima={})


def aggregate(loss_R_T: Tensor, mask_R_T: Tensor, how: Aggregation, counts: GlobalCounts) -> Tensor:
    """This micro-batch's share of the global mean.

    `token-mean`: sum over tokens / tokens of the global batch. `seq-mean`: sum over responses of the mean over their
    tokens / responses of the global batch; responses without a token that counts do not count. `token-sum`: sum over
    tokens / responses of the global batch. `token-sum-norm`: the same / most tokens a response may have.
    """
    # `where`, not a product: what stands outside the mask may be infinite, and 0 * inf is NaN.
    masked_R_T = loss_R_T.where(mask_R_T > 0, 0.0)
    if how == "token-mean":
        return masked_R_T.sum() / max(counts.tokens, 1)
    if how == "token-sum":
        return masked_R_T.sum() / max(counts.responses, 1)
    if how == "token-sum-norm":
        return masked_R_T.sum() / max(counts.responses * counts.response_cap, 1)
    lengths_R = mask_R_T.sum(dim=1).clamp(min=1.0)
    return (masked_R_T.sum(dim=1) / lengths_R).sum() / max(counts.responses, 1)


def _sum(values_R_T: Tensor, mask_R_T: Tensor) -> float:
    return float(values_R_T.detach().to(mask_R_T.dtype).where(mask_R_T > 0, 0.0).sum())
