"""Advantages: how much better a response, or a token of it, was than expected. Pure functions.

The first part looks at the rewards of one group, in any unit; the second at tensors (R, T), one row for each response,
whose mask is 1.0 on the tokens that the policy wrote.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

WHITENING_EPSILON = 1e-8
"""Added to a variance before its root is taken."""


def group_advantages(
    rewards: Sequence[float | None], how: Literal["normalised", "centred", "leave-one-out"], epsilon: float = 0.0
) -> list[float | None]:
    """The advantages of one group's responses.

    `normalised`: A_i = (R_i - mean) / (std + epsilon), with the sample deviation (ddof = 1), AutoDriveRL Eq. 3, GRPO.
    `centred`: A_i = R_i - mean, Dr. GRPO (arXiv 2503.20783). `leave-one-out`: A_i = R_i - mean of the others, RLOO
    (arXiv 2402.14740 Eq. 8).

    A masked response (None: its reward failed) leaves the group: mean and deviation are over the rest, and its own
    advantage is None. With fewer than two responses left there is nothing to compare, and all advantages are None.

    Args:
        rewards: one reward per response; None where no reward could be given.
        how: what a reward is measured by.
        epsilon: added to the deviation, so that a group of equal rewards gives zeros.
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None] * len(rewards)
    scale = 1.0
    if how == "normalised":
        scale = 1.0 / (statistics.stdev(known) + epsilon) if not has_zero_deviation(known) else 0.0
    elif how == "leave-one-out":
        scale = len(known) / (len(known) - 1)
    mean = statistics.fmean(known)
    return [None if reward is None else scale * (reward - mean) for reward in rewards]


def has_zero_deviation(rewards: Sequence[float | None]) -> bool:
    """Whether all known rewards of a group are equal, so that nothing can be learnt from it."""
    return len({reward for reward in rewards if reward is not None}) <= 1


def overlong_share(length: int, cap: int, buffer: float) -> float:
    """How much of the soft punishment for length a response earns, 0-1 (DAPO Eq. 13, arXiv 2503.14476).

    0 up to `cap * (1 - buffer)` tokens, then rising linearly to 1 at the cap.

    Args:
        length: tokens of the response.
        cap: most tokens a response may have.
        buffer: share of the cap over which the punishment rises; 0 punishes nothing.
    """
    if buffer == 0:
        return 0.0
    return min(1.0, max(0.0, (length - cap * (1 - buffer)) / (cap * buffer)))


def span_rewards(reward: float, gains: Sequence[float], ends: Sequence[int], length: int) -> list[float]:
    """A response's reward as rewards of its tokens: what spans gained where they end, the rest at the last token.

    BDD-OIA: r_(k+1) = R1(T_(k+1)) - R1(T_k). The rewards add up to `reward`, whatever the gains are.

    Args:
        reward: what the response is worth.
        gains: what each span added to it.
        ends: index just behind the last token of each span, rising, at most `length`.
        length: tokens of the response.

    Raises:
        ValueError: gains and ends differ in number, or an end lies outside the response.
    """
    if len(gains) != len(ends) or any(not 0 < end <= length for end in ends):
        raise ValueError(f"{len(gains)} gains cannot end at the tokens {list(ends)} of a response of {length}")
    rewards = [0.0] * length
    rewards[-1] = reward - sum(gains)
    for gain, end in zip(gains, ends, strict=True):
        rewards[end - 1] += gain
    return rewards


def returns_to_go(rewards_R_T: Tensor, mask_R_T: Tensor, discount: float = 1.0) -> Tensor:
    """G_t = r_t + discount G_(t+1) over the tokens of the mask; the others pass on what follows them, and hold 0."""
    returns_R_T, following_R = rewards_R_T.new_zeros(rewards_R_T.shape), rewards_R_T.new_zeros(len(rewards_R_T))
    for t in reversed(range(rewards_R_T.shape[1])):
        counts_R = mask_R_T[:, t] > 0
        following_R = (rewards_R_T[:, t] + discount * following_R).where(counts_R, following_R)
        returns_R_T[:, t] = following_R.where(counts_R, 0.0)
    return returns_R_T


def generalised_advantages(
    rewards_R_T: Tensor, values_R_T: Tensor, mask_R_T: Tensor, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438 Eq. 16), and the returns A + V the critic learns from.

    delta_t = r_t + discount V_(t+1) - V_t; A_t = delta_t + discount trace A_(t+1). Where the mask is 0 the value and
    the advantage of what follows are carried across. The advantages are not whitened yet; the returns never are.

    Args:
        rewards_R_T: the reward of each token.
        values_R_T: V of the state before each token.
        mask_R_T: 1.0 on the tokens that count.
        discount: gamma.
        trace: lambda; 1 gives returns less values, 0 the one-step error.
    """
    advantages_R_T = rewards_R_T.new_zeros(rewards_R_T.shape)
    value_R = advantage_R = rewards_R_T.new_zeros(len(rewards_R_T))
    for t in reversed(range(rewards_R_T.shape[1])):
        counts_R = mask_R_T[:, t] > 0
        delta_R = rewards_R_T[:, t] + discount * value_R - values_R_T[:, t]
        advantage_R = (delta_R + discount * trace * advantage_R).where(counts_R, advantage_R)
        value_R = values_R_T[:, t].where(counts_R, value_R)
        advantages_R_T[:, t] = advantage_R.where(counts_R, 0.0)
    return advantages_R_T, (advantages_R_T + values_R_T).where(mask_R_T > 0, 0.0)


def whitened(values_R_T: Tensor, mask_R_T: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over the mask, with the sample variance (ddof = 1); 0 outside the mask.

    The statistics are those of the global batch: `total` sums what the ranks hold. Without two numbers in it, zeros.
    """
    count, mean, variance = moments(values_R_T, mask_R_T, total)
    if count < 2:
        return values_R_T.new_zeros(values_R_T.shape)
    scale = (variance * count / (count - 1) + WHITENING_EPSILON) ** -0.5
    return ((values_R_T - mean) * scale).where(mask_R_T > 0, 0.0)


def moments(values_R_T: Tensor, mask_R_T: Tensor, total: Callable[[Tensor], Tensor]) -> tuple[float, float, float]:
    """Number, mean and variance (ddof = 0) of what stands inside the mask, over the global batch.

    Sums are taken in float64, and the variance from the deviations, so that no digits are lost however they are spread.
    """
    inside_R_T = mask_R_T > 0
    sums_2 = mask_R_T.new_zeros(2).double()
    sums_2[0], sums_2[1] = inside_R_T.sum(), values_R_T.double().where(inside_R_T, 0.0).sum()
    count, summed = total(sums_2).tolist()
    mean = summed / max(count, 1.0)
    squares = (values_R_T.double() - mean).square().where(inside_R_T, 0.0).sum()
    return count, mean, float(total(squares)) / max(count, 1.0)
