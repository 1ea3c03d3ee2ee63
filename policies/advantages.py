"""Advantages: how much better a response, or a token of it, was than expected. Pure functions.

The first part looks at the rewards of one group, in any unit; the second at tensors (R, T), one row for each response,
whose mask is 1.0 on the tokens that the policy wrote.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import torch
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


def token_rewards(rewards_R: Tensor, kl_R_T: Tensor, mask_R_T: Tensor, beta: float) -> Tensor:
    """r_t = R [t is the last token] - beta KL_t: each token's reward when the KL is part of it (PPO, REINFORCE++)."""
    last_R = mask_R_T.shape[1] - 1 - mask_R_T.flip(1).argmax(dim=1)
    at_end_R_T = torch.zeros_like(kl_R_T).scatter(1, last_R[:, None], rewards_R[:, None].to(kl_R_T.dtype))
    return torch.where(mask_R_T > 0, at_end_R_T - beta * kl_R_T, 0.0)


def returns_to_go(rewards_R_T: Tensor, mask_R_T: Tensor, discount: float = 1.0) -> Tensor:
    """G_t = r_t + discount G_(t+1) over the tokens of the mask; the others pass on what follows them, and hold 0."""
    returns_R_T, following_R = torch.zeros_like(rewards_R_T), torch.zeros_like(rewards_R_T[:, 0])
    for t in reversed(range(rewards_R_T.shape[1])):
        counts_R = mask_R_T[:, t] > 0
        following_R = torch.where(counts_R, rewards_R_T[:, t] + discount * following_R, following_R)
        returns_R_T[:, t] = torch.where(counts_R, following_R, 0.0)
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
    advantages_R_T = torch.zeros_like(rewards_R_T)
    value_R, advantage_R = torch.zeros_like(rewards_R_T[:, 0]), torch.zeros_like(rewards_R_T[:, 0])
    for t in reversed(range(rewards_R_T.shape[1])):
        counts_R = mask_R_T[:, t] > 0
        delta_R = rewards_R_T[:, t] + discount * value_R - values_R_T[:, t]
        advantage_R = torch.where(counts_R, delta_R + discount * trace * advantage_R, advantage_R)
        value_R = torch.where(counts_R, values_R_T[:, t], value_R)
        advantages_R_T[:, t] = torch.where(counts_R, advantage_R, 0.0)
    return advantages_R_T, torch.where(mask_R_T > 0, advantages_R_T + values_R_T, 0.0)


def whitened(values_R_T: Tensor, mask_R_T: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over the mask, with the sample variance (ddof = 1); 0 outside the mask.

    The statistics are those of the tensors given, so these must hold the global batch.
    """
    counted = values_R_T[mask_R_T > 0]
    if counted.numel() < 2:
        return torch.zeros_like(values_R_T)
    scale = torch.rsqrt(counted.var() + WHITENING_EPSILON)
    return torch.where(mask_R_T > 0, (values_R_T - counted.mean()) * scale, 0.0)


def incremental_rewards(gains: Sequence[float], ends: Sequence[int], length: int) -> list[float]:
    """The gains of a caption's spans as rewards of the tokens that end them (BDD-OIA: r_(k+1) = R1(T_(k+1)) - R1(T_k)).

    They add up to what the gains add up to: the R1 of the whole caption, if the first gain is that of saying nothing.

    Args:
        gains: what each span added.
        ends: index just behind the last token of each span, rising, at most `length`.
        length: tokens of the response.

    Raises:
        ValueError: gains and ends differ in number, or an end lies outside the response.
    """
    if len(gains) != len(ends) or any(not 0 < end <= length for end in ends):
        raise ValueError(f"{len(gains)} gains cannot end at the tokens {list(ends)} of a response of {length}")
    rewards = [0.0] * length
    for gain, end in zip(gains, ends, strict=True):
        rewards[end - 1] += gain
    return rewards
