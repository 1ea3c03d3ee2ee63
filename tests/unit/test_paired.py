"""Which answers of two runs pair, and which are left out under which name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.comparison.paired import IN_WORDS, pair_answers
from evaluation.held_out import AnswerRecord
from evaluation.suites.record import NO_VALUE
from tests.answered import answered


def left_out(a: list[AnswerRecord], b: list[AnswerRecord]) -> dict[str, int]:
    pairing = pair_answers(a, b)
    assert not pairing.pairs
    return pairing.left_out


def test_questions_pair_by_id_and_setting_whatever_their_order() -> None:
    a = [answered("x", 10.0), answered("x", 20.0, setting="Fog"), answered("y", 30.0)]
    b = [answered("y", 35.0), answered("x", 25.0, setting="Fog"), answered("x", 15.0)]
    pairing = pair_answers(a, b)
    assert [(one.sample_id, one.setting, one.value_a, one.value_b) for one in pairing.pairs] == [
        ("x", "", 10.0, 15.0),
        ("x", "Fog", 20.0, 25.0),
        ("y", "", 30.0, 35.0),
    ]
    assert [one.change for one in pairing.pairs] == [5.0] * 3
    assert pairing.left_out == {}


def test_a_question_is_worth_the_mean_of_its_scored_repeats() -> None:
    failed = answered("x", 0.0, repeat=1, failure="judge: timeout")
    [pair] = pair_answers([answered("x", 40.0, repeat=2), failed, answered("x", 20.0)], [answered("x", 90.0)]).pairs
    assert (pair.value_a, pair.value_b) == (30.0, 90.0)
    assert [answer.repeat for answer in pair.a] == [0, 2]


def test_questions_of_one_side_are_counted() -> None:
    a = [answered("x", 1.0), answered("y", 1.0), answered("z", 1.0, setting="Fog")]
    assert left_out(a, [answered("z", 1.0)]) == {"only_in_a": 3, "only_in_b": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"question": "What else?"},
        {"ground_truth": "Nothing."},
        {"choices": {"A": "Stopped."}},
        {"task": "behavior"},
    ],
)
def test_another_question_under_the_same_id_is_a_fault(change: dict[str, Any]) -> None:
    a = [answered("x", 1.0)]
    assert left_out(a, [answered("x", 1.0, **change)]) == {"another_question_under_the_same_id": 1}
    both = [*a, answered("x", 1.0, repeat=1, **change)]
    assert left_out(both, a) == {"another_question_under_the_same_id": 1}


def test_other_image_paths_are_the_same_question() -> None:
    moved = answered("x", 1.0, images={"CAM_FRONT": "/elsewhere/front.jpg"})
    assert len(pair_answers([answered("x", 1.0)], [moved]).pairs) == 1


def test_a_question_without_a_score_is_counted_by_side() -> None:
    scored, failed = answered("x", 1.0), answered("x", 0.0, failure="judge: timeout")
    assert left_out([failed], [scored]) == {"unscored_in_a": 1}
    assert left_out([scored], [failed]) == {"unscored_in_b": 1}
    assert left_out([failed], [failed]) == {"unscored_in_both": 1}
    assert left_out([scored], [answered("x", float("nan"))]) == {"unscored_in_b": 1}
    bare = answered("x", 0.0, failure=NO_VALUE)
    assert left_out([bare], [bare]) == {NO_VALUE: 1}


side = st.lists(
    st.builds(
        answered,
        st.sampled_from("uvwxyz"),
        st.sampled_from([0.0, 50.0, 100.0]),
        setting=st.sampled_from(["", "Fog"]),
        question=st.sampled_from(["What?", "What?", "Where?"]),
        failure=st.sampled_from([None, None, "judge: timeout", NO_VALUE]),
    ),
    max_size=12,
)


@given(side, side)
def test_every_question_is_paired_or_counted_once(a: list[AnswerRecord], b: list[AnswerRecord]) -> None:
    pairing = pair_answers(a, b)
    keys = {(answer.sample_id, answer.setting) for answer in [*a, *b]}
    assert len(pairing.pairs) + sum(pairing.left_out.values()) == len(keys)
    assert set(pairing.left_out) <= set(IN_WORDS)
