from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics.ptb import captions


def caption(text: str) -> str:
    return captions([text])[0]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # what CoreNLP 3.4.1 gives with -lowerCase, punctuation dropped as in COCO's caption evaluation
        ("Based on <c1,CAM_BACK,1088.3,497.5>, brake.", "based on < c1 cam_back ,1088.3,497.5 > brake"),
        ("[(traffic light, green, 674.86, 0.14)].", "-lsb- -lrb- traffic light green 674.86 0.14 -rrb- -rsb-"),
        ("It's a car's; don't, can't, cannot, we'll.", "it 's a car 's do n't ca n't can not we 'll"),
        ("it’s ‘a’ “b”", "it 's a b"),
        ("1.Maintain 50mph/50 km/h, 3.5m, 50%, $5.", "1 maintain 50mph/50 km/h 3.5 m 50 % $ 5"),
        ("e.g. the U.S. etc. vs. Mr. Smith approx. 5 p.m.", "e.g. the u.s. etc. vs. mr. smith approx 5 p.m."),
        ("no. 5 is No. of", "no. 5 is no of"),
        ("brown-and-white SUV -- front–left … and/or", "brown-and-white suv front left and/or"),
        ("**Bold** `code` <think>so</think>", "** bold ** code <think> so </think>"),
        ("the actions:1. Keep", "the actions :1 keep"),
        ("end.Start yes!no", "end.start yes!no"),
        ("A. Going ahead. B. Stopped.", "a. going ahead b. stopped"),
        ("It is A. The car", "it is a the car"),
        ("wait 1 1/2 s, ½ m", "wait 1\xa01/2 s 1/2 m"),
        ("a car (a van) is :) near", "a car -lrb- a van -rrb- is :-rrb- near"),
        ("dog., cat.", "dog. cat"),
        ("... -- ?!", "?!"),
        ("", ""),
    ],
)
def test_tokens_are_those_of_the_reference_tokeniser(text: str, tokens: str) -> None:
    assert caption(text) == tokens


def test_a_lone_letter_at_the_end_loses_its_stop_when_the_next_text_opens_a_sentence() -> None:
    assert captions(["It is B.", "The car", "It is B.", "a car"]) == ["it is b", "the car", "it is b.", "a car"]
    assert captions(["at 5 a.m.", "The car"])[0] == "at 5 a.m."


def test_a_break_inside_a_text_is_a_space() -> None:
    assert captions(["a\r\ncar\nstops", "b"]) == ["a car stops", "b"]


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_texts_give_one_line_each_in_lower_case(texts: list[str]) -> None:
    found = captions(texts)
    assert len(found) == len(texts)
    assert all(line == line.lower() and line == line.strip() for line in found)


@given(st.text(alphabet="abC1. ,'-<>()/\"!?:_@#&=*", max_size=30))
def test_text_survives_apart_from_what_is_dropped_or_renamed(text: str) -> None:
    kept = "".join(character for character in text.lower() if character.isalnum())
    found = caption(text)
    for name in ("-lrb-", "-rrb-"):
        found = found.replace(name, "")
    assert "".join(character for character in found if character.isalnum()) == kept
