from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.gate import gate_reason, most_repeated_sentence, repeated_share
from rewards.settings import GateSettings

SETTINGS = GateSettings()
NOTICE = (
    "Firstly notice that <c3,CAM_FRONT,1043.2,82.2>. The object is a traffic sign, so the ego vehicle should keep "
    "going ahead at the same speed. Secondly notice that <c1,CAM_BACK,1088.3,497.5>. The object is turning left, so "
    "the ego vehicle should keep going ahead at the same speed. Thirdly notice that <c2,CAM_BACK,864.2,468.3>. The "
    "object is going ahead, so the ego vehicle should keep going ahead at the same speed."
)


def test_a_response_cut_off_at_the_cap_is_overlong() -> None:
    assert gate_reason("Yes.", "length", SETTINGS) == "overlong"
    assert gate_reason("Yes.", "stop", SETTINGS) is None
    assert gate_reason("Yes.", "length", GateSettings(overlong=False)) is None


def test_the_long_answers_of_drivelm_pass() -> None:
    boxes = ", ".join(
        f"(traffic light, unknown, {100 + i}.21, {50 + i}.5, {120 + i}.75, {90 + i}.25)" for i in range(20)
    )
    for text in (NOTICE, f"There are many traffic elements in the front view. They are [{boxes}].", "Yes."):
        assert gate_reason(text, "stop", SETTINGS) is None


@pytest.mark.parametrize(
    "text",
    [
        "the car is moving and " * 12,
        "the car, the car, the car, the car, the car, the car, the car",
        "<c1,CAM_FRONT,800.5,450.5>" * 12,
        "yes no " * 20,
    ],
)
def test_a_response_that_goes_round_in_circles_is_repetitive(text: str) -> None:
    assert gate_reason(text, "stop", SETTINGS) == "repeated_ngrams"


def test_the_same_sentence_more_often_than_allowed_is_repetitive() -> None:
    text = "Keep going. It is red. Keep going! The road is clear. KEEP GOING. A car turns left."
    assert gate_reason(text, "stop", SETTINGS) is None
    assert gate_reason(text + "\nkeep going", "stop", SETTINGS) == "repeated_sentence"
    assert gate_reason(text, "stop", GateSettings(max_repeated_sentence=2)) == "repeated_sentence"


def test_short_answers_are_never_repetitive_by_ngrams() -> None:
    text = "go go go go go go go go go go go"
    assert gate_reason(text, "stop", SETTINGS) is None
    assert gate_reason(text, "stop", GateSettings(min_words=5)) == "repeated_ngrams"


def test_the_thresholds_are_those_of_the_settings() -> None:
    text = "a red car a red car a red car turns left at the next light now"
    assert gate_reason(text, "stop", GateSettings(ngram=2, max_repeated_share=0.5)) is None
    assert gate_reason(text, "stop", GateSettings(ngram=2, max_repeated_share=0.2)) == "repeated_ngrams"


def test_a_coordinate_does_not_end_a_sentence() -> None:
    assert most_repeated_sentence("1.5, 2.5 1.5, 3.5 1.5, 4.5") == 1


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.integers(1, 6))
def test_the_repeated_share_is_a_share_and_0_for_distinct_words(words: list[str], n: int) -> None:
    assert 0.0 <= repeated_share(words, n) < 1.0
    assert repeated_share([f"{word}{place}" for place, word in enumerate(words)], n) == 0.0


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_the_gate_takes_any_text(text: str, finish_reason: str) -> None:
    assert gate_reason(text, finish_reason, SETTINGS) in (None, "overlong", "repeated_ngrams", "repeated_sentence")
