from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.formats.bdd_oia_words import (
    ACTION_TEXTS,
    ACTIONS,
    OBJECTS,
    REASONS,
    Reason,
    action_of,
    actions_in,
    objects_in,
    reasons_in,
)


def bits(text: str) -> list[int]:
    return [reason.bit for reason in reasons_in(text)]


def test_the_21_reasons_stand_in_bit_order_and_six_of_them_rule_an_action_out() -> None:
    assert [reason.bit for reason in REASONS] == list(range(21))
    assert [reason.bit for reason in REASONS if reason.rules_out] == [15, 16, 17, 18, 19, 20]
    assert [[reason.bit for reason in REASONS if reason.action == action] for action in ACTIONS] == [
        [0, 1, 2],
        [3, 4, 5, 6, 7, 8],
        [9, 10, 11, 15, 16, 17],
        [12, 13, 14, 18, 19, 20],
    ]


@pytest.mark.parametrize("reason", REASONS)
def test_the_words_of_every_reason_name_it_and_no_other_and_no_action(reason: Reason) -> None:
    assert reasons_in(reason.text) == (reason,)
    assert actions_in(reason.text) == frozenset()
    assert objects_in(reason.text)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_words_of_every_action_name_it(action: str) -> None:
    assert action_of(ACTION_TEXTS[action]) == action  # type: ignore[index]
    assert action_of(action.upper() + ".") == action


def test_the_longest_name_of_an_action_is_read() -> None:
    assert action_of("Changing lanes to the left turn!!!") == "left"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The light is green and the road ahead is clear.", [1, 2]),
        ("There is a red light so the ego vehicle must stop.", [7]),
        ("The traffic light is not green.", []),
        ("Traffic sign, traffic light.", [7, 8]),
        ("The traffic light is out of order.", []),
        ("There is no pedestrian.", []),
        ("The road ahead is not clear.", []),
        ("No obstacles ahead.", [1]),
        ("A pedestrian and a cyclist are crossing.", [4, 5]),
        ("The car ahead is stopping.", [3]),
        ("The car in front is turning right.", [12]),
        ("We are in the left turn lane.", [10]),
        ("The left lane is blocked by a truck.", [15]),
        ("There's a solid white line on the right side.", [20]),
        ("There is no right lane.", [19]),
        ("Don't stop, follow the car ahead.", [0]),
        ("A stop sign is ahead.", [8]),
        ("The weather is fine.", []),
    ],
)
def test_a_reason_is_read_from_a_sentence(text: str, named: list[int]) -> None:
    assert bits(text) == named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The ego vehicle should turn left.", {"left"}),
        ("We stop, the front car is turning left.", {"stop"}),
        ("There is no pedestrian, so keep going straight.", {"forward"}),
        ("It cannot turn left.", set()),
        ("Do not stop.", set()),
        ("The car ahead shows its brake lights at a stop sign.", set()),
    ],
)
def test_an_action_to_take_is_read_from_a_sentence(text: str, named: set[str]) -> None:
    assert actions_in(text) == named


@pytest.mark.parametrize("text", ["", "banana", "stop sign", "forward and left", "the car stops", "forward forward"])
def test_what_is_not_wholly_an_actions_name_names_none(text: str) -> None:
    assert action_of(text) is None


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    assert set(reasons_in(text)) <= set(REASONS)
    assert actions_in(text) <= set(ACTIONS)
    assert objects_in(text) <= set(OBJECTS)
    assert action_of(text) in (*ACTIONS, None)


@pytest.mark.parametrize("flood", [" ", "left ", "car ", "no ", "solid left ", "obstacle: ", "word", "\n"])
def test_a_long_response_is_read_as_a_short_one_is(flood: str) -> None:
    # Two million characters squared would outlast the limit of a test.
    short, long = flood * 4, flood * (2_000_000 // len(flood))
    assert (reasons_in(long), actions_in(long)) == (reasons_in(short), actions_in(short))
    assert objects_in(long) == objects_in(short)
