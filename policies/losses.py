"""The GRPO loss and the supervised loss: pure functions of log-probabilities, normalised over the global batch.

Shapes: R responses in this micro-batch, T tokens of the longest. Every loss is a sum over this micro-batch divided by
a count over the *global* batch (all micro-batches, all ranks), so the sum over micro-batches and ranks is the loss,
and its gradient does not depend on how the batch was cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.settings import AlgorithmSettings

KL_CLAMP = 10.0
"""The k3 estimate of one token is clamped to +- this, as all three peers do."""


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
    """log pi_ref; None when the KL term is off."""
    advantages_R: Tensor
    """One advantage per response."""
    mask_R_T: Tensor
    """1.0 on response tokens that count, else 0.0."""


@dataclass(frozen=True)
class GlobalCounts:
    """What the global batch holds, over all micro-batches and ranks: the denominators."""

    responses: int
    """Responses with at least one token that counts."""
    tokens: int
    """Tokens that count."""


@dataclass(frozen=True)
class LossResult:
    """A loss and the token sums behind its metrics; divide the sums by the global token count."""

    loss: Tensor
    """Scalar; the sum over micro-batches and ranks is the loss of the global batch."""
    token_sums: dict[str, float]
    """Sums over the tokens of this micro-batch: `kl`, `clip_share`, `truncated_share`, `logprob_gap_mean`."""
    maxima: dict[str, float]
    """Largest values in this micro-batch: `logprob_gap_max`."""


def grpo_loss(batch: PolicyLossInput, settings: AlgorithmSettings, counts: GlobalCounts) -> LossResult:
    """Clipped policy loss with a KL term towards the reference policy (AutoDriveRL Eq. 2; GRPO, arXiv 2402.03300).

    Per token, with rho = exp(lp - old) and w the truncated importance weight min(exp(old - rollout), cap), detached:
    L = w * max(-A rho, -A clip(rho, 1 - low, 1 + high)) + beta * k3, with k3 = exp(D) - D - 1 and D = ref - lp.
    The weight multiplies the policy term only, never the KL.
    """
    mask = batch.mask_R_T
    clamp = settings.log_ratio_clamp
    ratio_R_T = torch.exp((batch.logprobs_R_T - batch.old_logprobs_R_T).clamp(-clamp, clamp))
    advantages_R_1 = batch.advantages_R[:, None]
    clipped_R_T = ratio_R_T.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high)
    unclipped_loss_R_T, clipped_loss_R_T = -advantages_R_1 * ratio_R_T, -advantages_R_1 * clipped_R_T
    loss_R_T = torch.maximum(unclipped_loss_R_T, clipped_loss_R_T)

    mismatch_R_T = (batch.old_logprobs_R_T - batch.rollout_logprobs_R_T).detach()
    truncated_share = 0.0
    if settings.importance_cap is not None:
        weight_R_T = torch.exp(mismatch_R_T.clamp(-clamp, clamp))
        truncated_share = float(((weight_R_T > settings.importance_cap) * mask).sum())
        loss_R_T = loss_R_T * weight_R_T.clamp(max=settings.importance_cap)

    kl_sum = 0.0
    if batch.reference_logprobs_R_T is not None:
        kl_R_T = kl_k3(batch.logprobs_R_T, batch.reference_logprobs_R_T, clamp)
        kl_sum = float((kl_R_T.detach() * mask).sum())
        loss_R_T = loss_R_T + settings.kl_beta * kl_R_T

    gap_R_T = mismatch_R_T.abs() * mask
    return LossResult(
        loss=aggregate(loss_R_T, mask, settings.aggregation, counts),
        token_sums={
            "kl": kl_sum,
            "clip_share": float(((clipped_loss_R_T > unclipped_loss_R_T) * mask).sum()),
            "truncated_share": truncated_share,
            "logprob_gap_mean": float(gap_R_T.sum()),
        },
        maxima={"logprob_gap_max": float(gap_R_T.max()) if gap_R_T.numel() else 0.0},
    )


def supervised_loss(logprobs_R_T: Tensor, mask_R_T: Tensor, counts: GlobalCounts) -> LossResult:
    """Token cross-entropy on the answers, mean over the tokens of the global batch."""
    return LossResult(aggregate(-logprobs_R_T, mask_R_T, "token-mean", counts), token_sums={}, maxima={})


def aggregate(loss_R_T: Tensor, mask_R_T: Tensor, how: str, counts: GlobalCounts) -> Tensor:
    """This micro-batch's share of the global mean.

    `token-mean`: sum over tokens / tokens of the global batch. `seq-mean`: sum over responses of the mean over their
    tokens / responses of the global batch; responses without a token that counts do not count.
    """
    # `where`, not a product: what stands outside the mask may be infinite, and 0 * inf is NaN.
    masked_R_T = torch.where(mask_R_T > 0, loss_R_T, 0.0)
    if how == "token-mean":
        return masked_R_T.sum() / max(counts.tokens, 1)
    lengths_R = mask_R_T.sum(dim=1).clamp(min=1.0)
    return (masked_R_T.sum(dim=1) / lengths_R).sum() / max(counts.responses, 1)


def kl_k3(logprobs_R_T: Tensor, reference_R_T: Tensor, clamp: float) -> Tensor:
    """The k3 estimate of KL(pi_theta || pi_ref) per token: exp(D) - D - 1 with D = ref - lp; never negative."""
    difference = (reference_R_T - logprobs_R_T).clamp(-clamp, clamp)
    return (torch.exp(difference) - difference - 1.0).clamp(-KL_CLAMP, KL_CLAMP)
