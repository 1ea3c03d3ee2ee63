from __future__ import annotations

import json

import pytest

from data.errors import DataError
from evaluation.metrics.driveaction import ActionTruth, LevelScore, is_right, score

CHOICES = {"A": "Change to the left lane", "B": "Keep the lane", "C": "Stop"}


def choice(answer: str, *level: str) -> ActionTruth:
    return ActionTruth(answer, level, CHOICES)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("(b) Keep the lane", True),
        ("Keep the lane.", True),
        ("<think>A?</think>The answer is B.", True),
        ("C", False),
        ("A car is ahead.", None),
        ("A or B", None),
    ],
)
def test_an_option_is_read_by_letter_or_text(text: str, right: bool | None) -> None:
    assert is_right(text, choice("B")) is right


@pytest.mark.parametrize(
    ("text", "right"),
    [("True", True), ("true.", True), ("The answer is True.", True), ("Yes, it is.", True), ("False", False),
     ("No.", False), ("True or False", None), ("Perhaps.", None), ("The statement is true.", True),
     ("The claim that we may go is false because the light is green.", False), ("Not true.", False), ("正确。", True),
     ("该说法是错误的，因为绿灯亮着。", False)],
)  # fmt: skip
def test_true_or_false_is_read_in_these_words_or_as_yes_or_no(text: str, right: bool | None) -> None:
    assert is_right(text, ActionTruth("True", ())) is right


def test_accuracy_is_given_for_every_node_of_the_tree() -> None:
    answers = {
        "1": choice("B", "Action", "Navigation"),
        "2": choice("A", "Action", "Navigation"),
        "3": choice("C", "Action", "Efficiency"),
        "4": ActionTruth("False", ("Vision", "Light")),
    }
    result = score({"1": "B", "2": "C", "3": "hm", "4": "False"}, answers, mode="A")
    assert (result.scored, result.accuracy, result.unreadable, result.mode) == (4, 50.0, 1, "A")
    assert result.levels == {
        "Action": LevelScore(3, 1, 1, 100 / 3),
        "Action/Efficiency": LevelScore(1, 0, 1, 0.0),
        "Action/Navigation": LevelScore(2, 1, 0, 50.0),
        "Vision": LevelScore(1, 1, 0, 100.0),
        "Vision/Light": LevelScore(1, 1, 0, 100.0),
    }
    assert json.loads(result.to_json())["levels"]["Action/Navigation"]["accuracy"] == 50.0


def test_a_truth_that_is_no_option_is_listed_and_left_out_and_strict_refuses_it() -> None:
    answers = {"1": choice("B"), "2": choice("E"), "3": ActionTruth("maybe", ())}
    predictions = {"1": "B", "2": "E", "3": "True"}
    result = score(predictions, answers)
    assert (result.scored, result.accuracy, result.faults) == (1, 100.0, {"unusable_truth": ["2", "3"]})
    with pytest.raises(DataError, match="2 unusable_truth; first: 2"):
        score(predictions, answers, strict=True)


def test_nothing_that_can_be_scored_is_an_error() -> None:
    with pytest.raises(DataError, match="unusable_truth"):
        score({"1": "E"}, {"1": choice("E")})
