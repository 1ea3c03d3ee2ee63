"""Advantages over a whole batch: returns of tokens, less what they strayed from the reference, on any ranks."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.algorithms.algorithm import Advantages, Rows
from policies.assessment import formed
from policies.settings import ALGORITHMS
from tests.algorithms import algorithm
from tests.ranks import alone, in_step

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])


def rows() -> Rows:
    """Rewards 1, 0 and 0.5; the policy gives every token -1, the reference -1.5, the critic 0.25."""
    credits = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    return Rows(credits, MASK, -MASK, -1.5 * MASK, 0.25 * MASK)


def inside(values: Tensor | None) -> list[float]:
    assert values is not None
    return values[MASK > 0].tolist()


def test_every_token_gets_its_return_measured_by_the_whole_batch() -> None:
    found = algorithm("reinforce_pp", kl_beta=0.1).advantages(rows(), 0.1, alone)
    price = 0.1 * 0.5  # beta k1: the policy gives the tokens half a nat more than the reference
    returns = torch.tensor([1.0 - 3 * price, 1.0 - 2 * price, 1.0 - price, -price, 0.5 - 2 * price, 0.5 - price])
    expected = (returns - returns.mean()) / returns.std()
    assert inside(found.advantages_R_T) == pytest.approx(expected.tolist(), abs=1e-5)
    assert found.metrics == pytest.approx({"kl": 0.5, "kl_beta": 0.1})


def test_a_critic_is_what_returns_are_measured_by_and_learns_them() -> None:
    found = algorithm("a2c", kl_beta=0.0).advantages(rows(), 0.0, alone)
    assert inside(found.returns_R_T) == pytest.approx([1.0, 1.0, 1.0, 0.0, 0.5, 0.5])
    assert inside(found.advantages_R_T) == pytest.approx([0.75, 0.75, 0.75, -0.25, 0.25, 0.25])
    assert found.metrics["value_explained"] == pytest.approx(0.0, abs=1e-6)  # a constant foresees nothing


def test_the_weight_of_the_kl_follows_its_target() -> None:
    method = algorithm("ppo", kl_beta=0.1, kl_target=0.01, kl_horizon=30)
    assert method.next_kl_beta(0.1, 1.0, 3) == pytest.approx(0.1 * (1 + 0.2 * 3 / 30))  # far above the clip of 20 %
    assert algorithm("ppo", kl_beta=0.1).next_kl_beta(0.1, 1.0, 3) == 0.1
    assert inside(method.advantages(rows(), 0.3, alone).returns_R_T)[2] == pytest.approx(1.0 - 0.3 * 0.5)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("shares", [[0, 1, 3], [0, 0, 3], [0, 2, 2, 3]], ids=str)
def test_ranks_form_the_advantages_and_metrics_that_one_rank_forms(name: str, shares: list[int]) -> None:
    method = algorithm(name)

    def share(first: int, last: int) -> Rows:
        own: dict[str, Any] = {field.name: getattr(rows(), field.name)[first:last] for field in fields(Rows)}
        return Rows(**own)

    whole = method.advantages(rows(), 0.1, alone)
    cuts = zip(shares, shares[1:], strict=False)
    parts: list[Advantages] = in_step([partial(method.advantages, share(first, last), 0.1) for first, last in cuts])
    together = torch.cat([part.advantages_R_T for part in parts])
    torch.testing.assert_close(together * MASK, whole.advantages_R_T * MASK, rtol=1e-5, atol=1e-6)
    for part in parts:
        assert part.metrics == pytest.approx(whole.metrics)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_only_fills_up_a_rank_counts_nowhere_and_each_micro_batch_gets_its_own_rows(name: str) -> None:
    method, whole = algorithm(name), rows()

    def found(first: int, last: int, width: int, keep: float = 1.0) -> Rows:
        cut: list[Any] = [getattr(whole, field.name)[first:last, :width] for field in fields(Rows)]
        return Rows(cut[0], cut[1] * keep, *cut[2:])

    expected = method.advantages(whole, 0.1, alone)
    parts = [found(0, 1, 3), found(1, 3, 2), found(1, 2, 1, keep=0.0)]
    known, metrics = formed(parts, method, 0.1, alone, keep_old=True)
    assert metrics == pytest.approx(expected.metrics)
    for one, (first, last, width) in zip(known, [(0, 1, 3), (1, 3, 2)], strict=False):
        mask = MASK[first:last, :width]
        ours, theirs = one.advantages_R_T * mask, expected.advantages_R_T[first:last, :width] * mask
        torch.testing.assert_close(ours, theirs)
        assert one.old_logprobs_R_T is not None
    assert known[2].advantages_R_T.shape == (1, 1)
    assert formed(parts, method, 0.1, alone, keep_old=False)[0][0].old_logprobs_R_T is None
