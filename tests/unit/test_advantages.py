"""Advantages within a group, over a batch, and along the tokens of a response."""

from __future__ import annotations

import statistics
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from policies.advantages import (
    generalised_advantages,
    group_advantages,
    has_zero_deviation,
    overlong_share,
    returns_to_go,
    span_rewards,
    whitened,
)
from tests.ranks import alone, in_step

REWARDS = st.lists(st.floats(0, 1), min_size=2, max_size=16)


def test_normalised_advantages_are_standard_scores_with_the_sample_deviation() -> None:
    rewards = [10.0, 20.0, 60.0]
    expected = [(r - 30.0) / (statistics.stdev(rewards) + 1e-6) for r in rewards]
    assert group_advantages(rewards, "normalised", 1e-6) == pytest.approx(expected)


def test_centred_advantages_are_not_divided() -> None:
    assert group_advantages([10.0, 20.0, 60.0], "centred") == [-20.0, -10.0, 30.0]


def test_leaving_one_out_compares_with_the_mean_of_the_others() -> None:
    assert group_advantages([10.0, 20.0, 60.0], "leave-one-out") == pytest.approx(
        [10.0 - 40.0, 20.0 - 35.0, 60.0 - 15.0]
    )


def test_a_masked_response_leaves_its_group() -> None:
    first, last = group_advantages([0.0, 1.0], "normalised", 1e-6)
    assert group_advantages([0.0, None, 1.0], "normalised", 1e-6) == [first, None, last]


def test_fewer_than_two_known_rewards_give_no_advantage() -> None:
    assert group_advantages([0.5, None, None], "normalised", 1e-6) == [None, None, None]
    assert group_advantages([None, None], "centred") == [None, None]
    assert group_advantages([0.5], "leave-one-out") == [None]


@given(REWARDS, st.sampled_from(["normalised", "centred", "leave-one-out"]))
def test_advantages_sum_to_zero(rewards: list[float], how: str) -> None:
    advantages = group_advantages(rewards, how, 1e-6)  # type: ignore[arg-type]
    assert sum(a for a in advantages if a is not None) == pytest.approx(0.0, abs=1e-3)


def test_equal_rewards_give_zero_advantages_and_are_recognised() -> None:
    for epsilon in (1e-6, 1e-9, 0.0):  # 0.1 x 3 has a mean that is not 0.1
        assert group_advantages([0.1] * 3, "normalised", epsilon) == [0.0] * 3
    assert has_zero_deviation([7.0, None, 7.0])
    assert not has_zero_deviation([7.0, 8.0])


def test_length_costs_nothing_before_the_buffer_and_everything_at_the_cap_and_beyond() -> None:
    assert [overlong_share(n, 100, 0.2) for n in (0, 80, 90, 100, 130)] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    assert overlong_share(100, 100, 0.0) == 0.0


def test_the_reward_belongs_to_the_last_token_but_for_what_spans_gained() -> None:
    assert span_rewards(0.75, [], [], 3) == [0.0, 0.0, 0.75]
    assert span_rewards(1.0, [0.5, -0.25], [1, 2], 3) == [0.5, -0.25, 0.75]
    assert span_rewards(1.0, [0.5], [3], 3) == [0.0, 0.0, 1.0]


def test_returns_add_up_what_follows_and_pass_over_what_the_policy_did_not_write() -> None:
    rewards, mask = torch.tensor([[1.0, 50.0, 2.0, 4.0]]), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(returns_to_go(rewards, mask, 0.5), torch.tensor([[3.0, 0.0, 4.0, 4.0]]))


def batch_of_values(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return rewards, values, torch.ones(4, 6, dtype=torch.float64)


def test_a_trace_of_one_gives_returns_less_values_and_of_zero_the_one_step_error() -> None:
    rewards, values, mask = batch_of_values()
    advantages, returns = generalised_advantages(rewards, values, mask, 0.9, 1.0)
    torch.testing.assert_close(returns, returns_to_go(rewards, mask, 0.9))
    torch.testing.assert_close(advantages, returns - values)
    following = torch.cat([values[:, 1:], torch.zeros(4, 1)], dim=1)
    one_step, _ = generalised_advantages(rewards, values, mask, 0.9, 0.0)
    torch.testing.assert_close(one_step, rewards + 0.9 * following - values)


def test_generalised_advantages_are_the_sum_of_discounted_errors() -> None:
    rewards, values, mask = batch_of_values()
    advantages, _ = generalised_advantages(rewards, values, mask, 0.9, 0.7)
    errors = rewards + 0.9 * torch.cat([values[:, 1:], torch.zeros(4, 1)], dim=1) - values
    by_hand = [[sum((0.9 * 0.7) ** (k - t) * errors[r, k] for k in range(t, 6)) for t in range(6)] for r in range(4)]
    torch.testing.assert_close(advantages, torch.tensor(by_hand, dtype=torch.float64))


def test_values_and_advantages_are_carried_across_tokens_that_the_policy_did_not_write() -> None:
    rewards, values, _ = batch_of_values()
    holes = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]] * 4, dtype=torch.float64)
    kept = [0, 3, 4]
    dense = generalised_advantages(rewards[:, kept], values[:, kept], torch.ones(4, 3), 0.9, 0.7)
    sparse = generalised_advantages(rewards, values, holes, 0.9, 0.7)
    for close, wide in zip(dense, sparse, strict=True):
        torch.testing.assert_close(wide[:, kept], close)
        assert not wide[:, [1, 2, 5]].any()


def test_whitened_values_have_mean_zero_and_sample_deviation_one_inside_the_mask() -> None:
    values, mask = torch.randn(5, 7, dtype=torch.float64), (torch.rand(5, 7) < 0.6).double()
    inside = whitened(values, mask, alone)[mask > 0]
    assert float(inside.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(inside.std()) == pytest.approx(1.0, rel=1e-6)
    assert not whitened(values, mask, alone)[mask == 0].any()
    assert not whitened(values, torch.zeros(5, 7), alone).any()
    single = torch.zeros(5, 7, dtype=torch.float64)
    single[2, 3] = 1.0  # a batch of one token has no deviation
    assert not whitened(values, single, alone).any()


def test_ranks_whiten_their_rows_by_the_moments_of_all() -> None:
    values, mask = 1e3 + torch.randn(6, 7), (torch.rand(6, 7) < 0.6).float()
    shares = [slice(0, 1), slice(1, 6), slice(6, 6)]
    parts = in_step([partial(whitened, values[rows], mask[rows]) for rows in shares])
    torch.testing.assert_close(torch.cat(parts), whitened(values, mask, alone), rtol=1e-5, atol=1e-5)


def test_a_response_masked_whole_has_no_returns_or_advantages() -> None:
    rewards, values, _ = batch_of_values()
    mask = torch.zeros(4, 6, dtype=torch.float64)
    assert not returns_to_go(rewards, mask).any()
    assert not any(tensor.any() for tensor in generalised_advantages(rewards, values, mask, 0.9, 0.7))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.integers(8, 40))
def test_the_rewards_of_spans_telescope_to_the_final_score(worth: list[float], length: int) -> None:
    gains = [after - before for before, after in zip([0.0, *worth], worth, strict=False)]
    ends = [length - len(worth) + index + 1 for index in range(len(worth))]
    rewards = torch.tensor([span_rewards(worth[-1], gains, ends, length)], dtype=torch.float64)
    assert float(rewards.sum()) == pytest.approx(worth[-1])
    assert float(returns_to_go(rewards, torch.ones_like(rewards))[0, 0]) == pytest.approx(worth[-1])


def test_gains_that_end_outside_the_response_are_refused() -> None:
    with pytest.raises(ValueError, match="2 gains cannot end at the tokens"):
        span_rewards(3.0, [1.0, 2.0], [3, 9], 8)
