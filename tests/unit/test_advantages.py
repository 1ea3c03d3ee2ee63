"""Group-relative advantages."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.advantages import group_advantages, has_zero_deviation

REWARDS = st.lists(st.floats(0, 100), min_size=2, max_size=16)


def test_advantages_are_standard_scores_with_the_sample_deviation() -> None:
    rewards = [10.0, 20.0, 60.0]
    expected = [(r - 30.0) / (statistics.stdev(rewards) + 1e-6) for r in rewards]
    assert group_advantages(rewards, 1e-6) == pytest.approx(expected)


def test_a_masked_response_leaves_its_group() -> None:
    assert group_advantages([0.0, None, 100.0], 1e-6) == [
        *group_advantages([0.0, 100.0], 1e-6)[:1],
        None,
        *group_advantages([0.0, 100.0], 1e-6)[1:],
    ]


def test_fewer_than_two_known_rewards_give_no_advantage() -> None:
    assert group_advantages([50.0, None, None], 1e-6) == [None, None, None]


@given(REWARDS)
def test_advantages_sum_to_zero(rewards: list[float]) -> None:
    advantages = group_advantages(rewards, 1e-6)
    assert sum(a for a in advantages if a is not None) == pytest.approx(0.0, abs=1e-3)


def test_equal_rewards_give_zero_advantages_and_are_recognised() -> None:
    assert group_advantages([7.0] * 4, 1e-6) == [0.0] * 4
    assert has_zero_deviation([7.0, None, 7.0])
    assert not has_zero_deviation([7.0, 8.0])
