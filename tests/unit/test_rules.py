from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.reading.rules import exact_match, extract_option, extract_yes_no, option_of
from rewards.answer import answer_part

LETTERS = "ABCD"
CHOICES = {
    "A": "Going ahead.",
    "B": "Stopped.",
    "C": "The ego vehicle is going straight. The ego vehicle is driving fast.",
    "D": "Turn left.",
}


# --- the answer in a response -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B", "B"),
        ("<think>A? No, B.</think><answer> B </answer>", "B"),
        ("<think>A?</think>\nB.", "B."),
        ("<answer>A</answer> wait <answer>B</answer>", "B"),
        ("<think>...</think><answer>B", "B"),
        ("<think>I never come to an end, A", ""),
        ("<THINK>x</THINK><ANSWER>yes</ANSWER>", "yes"),
        ("<answer></answer>", ""),
    ],
)
def test_rules_read_the_answer_part(text: str, answer: str) -> None:
    assert answer_part(text) == answer


def test_object_tags_are_not_mistaken_for_the_tags_of_an_answer() -> None:
    assert answer_part("<c1,CAM_BACK,1.5,2.5> turns.") == "<c1,CAM_BACK,1.5,2.5> turns."


# --- exact match ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "truth", "same"),
    [
        ("Turn left.", "Turn left.", True),
        ("turn  left", "Turn left.", True),
        ("**Turn left**.", "Turn left.", True),
        ("Turn left, then stop.", "Turn left.", False),
        ("Turn right.", "Turn left.", False),
        ("<c1,CAM_BACK,1.5,2.5>", "<c1,CAM_BACK,1.5,2.5>.", True),
        ("<c1,CAMBACK,1.5,2.5>", "<c1,CAM_BACK,1.5,2.5>.", False),
        ("", "", False),
        (".", "!", False),
    ],
)
def test_exact_match_forgives_case_spaces_and_a_full_stop_only(text: str, truth: str, same: bool) -> None:
    assert exact_match(text, truth) is same


# --- yes or no --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes.", True),
        ("no", False),
        ("**Yes**", True),
        ("Yes, there are no cars.", True),
        ("No, there are none, yes-men aside.", False),
        ("No barriers there.", False),
        ("The answer is yes.", True),
        ("Answer: no", False),
        ("I think so, yes.", True),
        ("Yes. No.", None),
        ("Yes and no.", None),
        ("yes or no", None),
        ("Yes/No", None),
        ("No, wait: yes.", None),
        ("None.", None),
        ("Not sure.", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_yes_and_no_are_read_and_hedging_is_neither(text: str, verdict: bool | None) -> None:
    assert extract_yes_no(text) is verdict


@given(st.text())
def test_reading_yes_or_no_takes_any_text(text: str) -> None:
    assert extract_yes_no(text) in (True, False, None)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B. The ego vehicle is approaching a car.", "B"),
        ("A. A car is moving.", "A"),
        ("A", "A"),
        ("a", "A"),
        ("b.", "B"),
        ("(C)", "C"),
        ("[C]", "C"),
        ("D) Turn left", "D"),
        ("D - turn left", "D"),
        ("D: turn left", "D"),
        ("'A'", "A"),
        ("“B”", "B"),
        ("**D**", "D"),
        ("**B.** Stopped.", "B"),
        (r"\boxed{C}", "C"),
        ("answer: d", "D"),
        ("ANSWER: A", "A"),
        ("The answer is B because a car is ahead.", "B"),
        ("The answer is (B) Stopped.", "B"),
        ("The correct option is: C", "C"),
        ("Option A", "A"),
        ("I think it is option d.", "D"),
        ("I think B.", "B"),
        ("B because a car is near", "B"),
        ("A because a car is near", "A"),
        ("a because a car is near", "A"),
        ("a - a car is near", "A"),
        ("A is correct", "A"),
        ("C, since a car stops", "C"),
        ("B, a car is there", "B"),
        ("C. The car is in lane B. It moves.", "C"),
        ("A\nA car is ahead.", "A"),
    ],
)
def test_an_option_is_read_in_every_usual_spelling(text: str, letter: str) -> None:
    assert extract_option(text, LETTERS) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A car is ahead.",
        "A given car.",
        "a car",
        "The answer is a car.",
        "Answer: A car is ahead",
        "The ego vehicle is going straight.",
        "Vehicles turn left at a crossing",
        "the A-pillar",
        "E",
        "None of them.",
    ],
)
def test_the_article_a_and_words_are_no_option(text: str) -> None:
    assert extract_option(text, LETTERS) is None


@pytest.mark.parametrize(
    "text",
    [
        "A or B",
        "A, B",
        "A/B",
        "(A) and (B)",
        "The answer is B or C",
        "Between A and B, B is better",
        "A. Going ahead. B. Stopped. C. Back up. D. Turn left.",
        "A. The answer is B.",
        "Final answer: A or B",
    ],
)
def test_several_options_are_none(text: str) -> None:
    assert extract_option(text, LETTERS) is None


def test_an_option_that_the_question_does_not_have_is_none() -> None:
    assert extract_option("D", "ABC") is None


def test_the_last_final_answer_decides() -> None:
    text = "A. A car is near, so final answer: A? No.\n\n**Final Answer**: c)"
    assert extract_option(text, LETTERS) == "C"


def test_a_stated_answer_decides_among_listed_options() -> None:
    assert extract_option("A. Going ahead. B. Stopped. The options done, the correct answer is B.", LETTERS) is None
    assert extract_option("The options: A. Going ahead. B. Stopped. The correct answer is B.", LETTERS) == "B"


PROSE = [
    "a truck",
    "a red",
    "an",
    "the",
    "ego",
    "car",
    "is",
    "to",
    "of",
    "and",
    "or",
    "left",
    "3.5",
    "because",
    "<c1,CAM_BACK,1.5,2.5>",
]
WORDS = st.lists(st.sampled_from(PROSE), min_size=1, max_size=12).map(" ".join)


@given(
    letter=st.sampled_from(LETTERS),
    opening=st.sampled_from(["{}. ", "({}) ", "{}) ", "{}: ", "**{}.** ", " {}.\n"]),
    lower=st.booleans(),
    words=WORDS,
)
def test_the_letter_with_which_a_text_begins_is_its_option(letter: str, opening: str, lower: bool, words: str) -> None:
    begin = opening.format(letter.lower() if lower else letter)
    for text in (f"The {words} car.", f"A car {words} a car.", f"The car. A car {words} car"):
        assert extract_option(begin + text, LETTERS) == letter


@given(WORDS)
def test_prose_with_articles_names_no_option(words: str) -> None:
    for text in (f"The {words} car.", f"A car {words} a car.", f"a car. A car {words} car"):
        assert extract_option(text, LETTERS) is None


@given(st.text(), st.sampled_from(["", "A", "ABCD"]))
def test_reading_an_option_takes_any_text_and_names_only_options(text: str, letters: str) -> None:
    assert extract_option(text, letters) in (None, *letters)


@given(st.text(alphabet=st.sampled_from("ABCDabcd.,:()/ \n*'-answeri"), max_size=40))
def test_reading_an_option_takes_any_mess_of_letters(text: str) -> None:
    assert extract_option(text, LETTERS) in (None, *LETTERS)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Stopped.", "B"),
        ("turn left", "D"),
        ("The ego vehicle is going straight. The ego vehicle is driving fast.", "C"),
        ("B. Turn left.", "B"),
        ("It stopped.", None),
    ],
)
def test_the_text_of_exactly_one_option_stands_for_its_letter(text: str, letter: str | None) -> None:
    assert option_of(text, CHOICES) == letter


def test_a_text_that_two_options_share_stands_for_none() -> None:
    assert option_of("Stopped", {"A": "Stopped.", "B": "stopped"}) is None
