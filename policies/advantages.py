"""Group-relative advantages: how much better a response is than its siblings. Pure functions on plain numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def group_advantages(rewards: Sequence[float | None], epsilon: float) -> list[float | None]:
    """GRPO advantages of one group: A_i = (R_i - mean) / (std + epsilon), AutoDriveRL Eq. 3.

    The standard deviation is the sample one (ddof = 1). A masked response (None: its reward failed) leaves the
    group: mean and deviation are over the rest, and its own advantage is None. With fewer than two responses left
    there is nothing to compare, and all advantages are None.

    Args:
        rewards: one reward per response, in any unit; None where no reward could be given.
        epsilon: added to the deviation, so that a group of equal rewards gives zeros.
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < 2:
        return [None] * len(rewards)
    mean, deviation = statistics.fmean(known), statistics.stdev(known)
    return [None if reward is None else (reward - mean) / (deviation + epsilon) for reward in rewards]


def has_zero_deviation(rewards: Sequence[float | None]) -> bool:
    """Whether all known rewards of a group are equal, so that nothing can be learnt from it."""
    return len({reward for reward in rewards if reward is not None}) <= 1
