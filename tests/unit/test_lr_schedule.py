"""The learning rate of reinforcement: up over the warm-up, then down as the schedule says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lr_schedule import Schedule, scheduled

STEPS = 100


def test_a_constant_rate_only_warms_up() -> None:
    assert [scheduled("constant", step, STEPS, 4) for step in (1, 2, 4, 5, 100)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert scheduled("constant", 1, STEPS, 0) == 1.0


@pytest.mark.parametrize(("schedule", "halfway"), [("linear", 0.5), ("cosine", 0.5)])
def test_a_falling_rate_begins_whole_and_is_half_halfway(schedule: Schedule, halfway: float) -> None:
    assert scheduled(schedule, 1, STEPS, 0) == 1.0
    assert scheduled(schedule, 51, STEPS, 0) == pytest.approx(halfway)
    assert 0 < scheduled(schedule, STEPS, STEPS, 0) < 0.02


def test_a_falling_rate_ends_at_its_floor() -> None:
    assert scheduled("linear", STEPS, STEPS, 0, floor=0.1) == pytest.approx(0.109)
    assert scheduled("cosine", STEPS + 1, STEPS, 0, floor=0.1) == pytest.approx(0.1)


@given(
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    floor=st.floats(0, 1),
)
def test_the_rate_is_a_share_and_never_rises_after_the_warm_up(
    schedule: Schedule, steps: int, warmup: int, floor: float
) -> None:
    shares = [scheduled(schedule, step, steps, warmup, floor) for step in range(1, steps + 1)]
    assert all(0 <= share <= 1 for share in shares)
    after = shares[warmup:]
    assert all(later <= earlier + 1e-12 for earlier, later in zip(after, after[1:], strict=False))
