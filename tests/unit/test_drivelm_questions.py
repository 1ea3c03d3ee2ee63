"""DriveLM's wording: which task a question is of, its options, and which kind of answer it wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.drivelm_questions import infer_kind, infer_task, letter_of, parse_choices


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("Are there barriers?", "No.", "yes_no"),
        ("Is there any traffic element?", "Yes, there are some traffic elements.", "yes_no"),
        ("What actions can lead to a collision?", "No such action will lead to a collision.", "open_ended"),
        ("What is the status?", "No.", "open_ended"),
        ("What object?", "<c1,CAM_BACK,1.5,2.5>.", "coordinates"),
        ("What priority?", "<c1,CAM_BACK,1.5,2.5>, <c2,CAM_BACK,1.5,2.5>, and <c3,CAM_BACK,3,4>.", "coordinates"),
        ("Where?", "(1.5, 2.5)", "coordinates"),
        ("What object?", "<c1,CAM_BACK,1.5,2.5>, no, none.", "structured"),
        ("Which elements?", "They are [(traffic light, red, 1.5, 2.5, 3.5, 4.5)].", "structured"),
        ("What object?", "None.", "open_ended"),
        ("How fast?", "About 3.5 m/s.", "open_ended"),
    ],
)
def test_the_kind_follows_from_question_and_answer(question: str, answer: str, kind: str) -> None:
    assert infer_kind(question, answer, {}) == kind


CHOICE_WORDS = ["The", "ego", "vehicle", "is", "going", "straight", "a", "A", "3.5"]
CHOICE = st.lists(st.sampled_from(CHOICE_WORDS), min_size=1, max_size=6).map(lambda words: " ".join(words) + ".")


@given(st.lists(CHOICE, min_size=2, max_size=6))
def test_options_are_parsed_as_they_were_written(texts: list[str]) -> None:
    choices = dict(zip("ABCDEF", texts, strict=False))
    listed = " ".join(f"{letter}. {text}" for letter, text in choices.items())
    assert parse_choices(f"Which? Please select the correct answer from the following options: {listed}") == choices


@given(st.text(), st.text())
def test_reading_questions_takes_any_text(question: str, answer: str) -> None:
    infer_task(question)
    parse_choices(question)
    parse_choices(f"following options: A. {question}")
    infer_kind(question, answer, {})


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("B. Stopped.", "B"),
        ("Stopped.", "B"),
        ("b", "B"), ("（B）", "B"), ("Ｂ", "B"), ("B。", "B"), ("Ｂ．", "B"), ("(B) Stopped", "B"), ("B、Stopped", "B"),
        ("B：Stopped。", "B"), ("B Stopped", "B"), ("答案：B", "B"), ("选B", "B"), ("选项B", "B"),
        ("The answer is B.", "B"), ("Option B", "B"), ("**B**", "B"), ("A Going ahead", "A"),
        ("C、直行", "C"), ("C直行", "C"),
        ("C 直行。", "C"), ("直行。", "C"),
        ("是", "D"), ("D。是。", "D"), ("None of the options", "E"),
        ("A. Stopped.", None), ("F", None), ("A, B", None), ("AB", None), ("", None), ("。", None),
        ("Up", None),
    ],
)  # fmt: skip
def test_an_annotated_answer_is_tied_to_its_option(answer: str, letter: str | None) -> None:
    choices = {"A": "Going ahead.", "B": "Stopped.", "C": "直行", "D": "是", "E": "None of the options."}
    assert letter_of(answer, choices) == letter


def test_the_text_of_an_option_counts_before_a_letter_without_a_mark() -> None:
    assert letter_of("A car", {"A": "bike", "B": "A car"}) == "B"
    assert letter_of("否。", {"A": "是", "B": "否"}) == "B"


@pytest.mark.parametrize(
    "answer",
    ["Yes.", "yes", "NO!", "True", "true ", "FALSE.", "是", "否。", "是的，有两辆车。", "正确", "错误。",
     "该说法错误。", "对",
     "√", "はい",
     "참", "Верно.", "Answer: True", "答案：正确", "The statement is false.", "No, there are none.",
     "True, as it is red."],
)  # fmt: skip
def test_a_verdict_in_any_case_and_language_is_yes_or_no(answer: str) -> None:
    assert infer_kind("", answer, {}) == "yes_no"


@pytest.mark.parametrize(
    "answer",
    ["No entry.", "No vehicles", "None, no, none.", "没有行人", "有行人", "Right.", "Turn right.", "correct lane",
     "Yes. No.",     "It slows down, which is right.", "True or false", "Not sure.", ""],
)  # fmt: skip
def test_what_only_begins_or_ends_like_a_verdict_is_another_answer(answer: str) -> None:
    assert infer_kind("", answer, {}) == "open_ended"
