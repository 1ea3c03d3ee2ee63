"""What a rank finds out about a batch before the first update on it, kept as tensors where the updates need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.algorithms.algorithm import Advantages, Algorithm, Rows, Total


@dataclass(frozen=True)
class Known:
    """What the updates on one micro-batch learn from."""

    advantages_R_T: Tensor
    old_logprobs_R_T: Tensor | None
    """None: the first update is the only one, so the policy it begins with is that of its own pass."""
    old_values_R_T: Tensor | None
    returns_R_T: Tensor | None


def formed(
    found: Sequence[Rows], algorithm: Algorithm, kl_beta: float, total: Total, *, keep_old: bool
) -> tuple[list[Known], dict[str, float]]:
    """The advantages of a rank's micro-batches, in order, and the algorithm's metrics.

    The mask of a micro-batch that only fills up must be 0 throughout: it then counts nowhere.

    Args:
        found: what is known of each micro-batch; those of all batches that were assessed together.
        algorithm: forms the advantages over all of them, and all ranks.
        kl_beta: the weight of a KL in the reward.
        total: sums over the ranks.
        keep_old: whether several updates follow.
    """
    width = max(one.mask_R_T.shape[1] for one in found)

    def stacked(rows: Sequence[Tensor | None]) -> Tensor | None:
        known = [row for row in rows if row is not None]
        padded = [torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in known]
        return torch.cat(padded) if len(known) == len(rows) else None

    credits_R_T, mask_R_T = stacked([one.credits_R_T for one in found]), stacked([one.mask_R_T for one in found])
    assert credits_R_T is not None and mask_R_T is not None  # noqa: PT018
    rows = Rows(
        credits_R_T,
        mask_R_T,
        stacked([one.logprobs_R_T for one in found]),
        stacked([one.reference_logprobs_R_T for one in found]),
        stacked([one.values_R_T for one in found]),
    )
    advantages = algorithm.advantages(rows, kl_beta, total)
    known, first = [], 0
    for one in found:
        responses, tokens = one.mask_R_T.shape
        known.append(_part(advantages, slice(first, first + responses), tokens, one, keep_old=keep_old))
        first += responses
    return known, advantages.metrics


def _part(advantages: Advantages, rows: slice, tokens: int, found: Rows, *, keep_old: bool) -> Known:
    returns_R_T = advantages.returns_R_T
    return Known(
        advantages.advantages_R_T[rows, :tokens],
        found.logprobs_R_T if keep_old else None,
        found.values_R_T,
        None if returns_R_T is None else returns_R_T[rows, :tokens],
    )
