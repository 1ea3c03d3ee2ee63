"""The order of a model's requests: by number, whatever the order of arrival, and holes do not block for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.training.lines import Line, Waiting

GAP_S = 20.0


def request(seq: int, kind: str = "forward_backward", arrived: float = 0.0) -> Waiting:
    return Waiting(seq, f"m:{seq}", kind, arrived)


def drained(line: Line, now: float = 0.0) -> list[int]:
    order = []
    while isinstance(found := line.next(now, GAP_S), Waiting):
        order.append(found.seq)
        line.done(found)
    return order


@given(st.permutations(range(1, 9)))
def test_requests_are_applied_by_number_whatever_the_order_of_arrival(arrival: list[int]) -> None:
    line, order = Line(0), []
    for seq in arrival:
        line.add(request(seq))
        order += drained(line)
    assert order == list(range(1, 9))


def test_the_chunks_of_a_forward_backward_wait_for_the_first_which_comes_last() -> None:
    line = Line(0)
    line.add(request(2))
    line.add(request(3))
    assert line.next(5.0, GAP_S) == GAP_S
    line.add(request(1))
    assert drained(line, 5.0) == [1, 2, 3]


@pytest.mark.parametrize("kind", ["optim_step", "save_weights", "load_weights"])
def test_holes_below_a_call_of_another_kind_never_fill(kind: str) -> None:
    line = Line(0)
    line.add(request(2))
    line.add(request(4, kind))
    assert drained(line) == [2, 4]


def test_a_forward_backward_waits_for_a_hole_no_longer_than_the_limit() -> None:
    line = Line(0)
    line.add(request(2, arrived=100.0))
    assert line.next(101.0, GAP_S) == 120.0
    assert drained(line, 120.0) == [2]


def test_a_request_that_failed_as_it_came_is_no_hole() -> None:
    line = Line(0)
    line.settle(1)
    line.add(request(2))
    assert drained(line) == [2]
