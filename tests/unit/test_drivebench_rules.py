from __future__ import annotations

import pytest

from data.sample import DrivingSample, Kind, Task
from evaluation.metrics.drivebench import SettingScore, accuracy_table, judge_table, rule_score

CHOICES = {"A": "Going ahead.", "B": "Turn left.", "C": "Turn right."}


def sample(kind: Kind, answer: str, task: Task = "perception") -> DrivingSample:
    choices = CHOICES if kind == "multiple_choice" else {}
    return DrivingSample("s_f_0", "s", "f", task, kind, "What?", answer, {}, choices)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("B", True),
        ("B. The ego vehicle is approaching a car.", True),
        ("**B.** A car is turning.", True),
        ("The correct answer is B. Turn left.", True),
        ("<think>A?</think><answer>B</answer>", True),
        ("Turn left.", True),
        ("A. Going ahead.", False),
        ("A car is turning left.", False),
        ("A or B", False),
        ("", False),
    ],
)
def test_the_option_is_read_and_not_the_article(response: str, right: bool) -> None:
    assert rule_score(sample("multiple_choice", "B"), "clean", response).right is right


def test_an_answer_that_chooses_nothing_is_wrong_and_unreadable() -> None:
    assert rule_score(sample("multiple_choice", "B"), "clean", "It is unclear.").unreadable
    assert not rule_score(sample("multiple_choice", "B"), "clean", "C").unreadable
    assert rule_score(sample("yes_no", "No."), "clean", "Maybe.").unreadable


@pytest.mark.parametrize(
    ("response", "right"),
    [("No, it is a sedan.", True), ("No.", True), ("Yes. It is not a car.", False), ("Yes and no.", False)],
)
def test_yes_and_no_are_read(response: str, right: bool) -> None:
    assert rule_score(sample("yes_no", "No."), "Fog", response).right is right


def test_a_question_in_free_words_is_left_to_the_judge() -> None:
    score = rule_score(sample("open_ended", "Brake."), "Fog", "B", judged=40.0)
    assert (score.right, score.judged) == (None, 40.0)


def scores(setting: str, task: Task, *right: bool) -> list[SettingScore]:
    return [SettingScore(str(index), task, setting, value) for index, value in enumerate(right)]


def test_the_table_has_the_mean_over_corruptions_and_the_drops() -> None:
    table = accuracy_table(
        [
            *scores("clean", "perception", True, True, True, False),
            *scores("Fog", "perception", True, False),
            *scores("Rain", "perception", False),
            *scores("no_image", "perception", True, False, False, False),
            SettingScore("x", "planning", "clean", None, judged=50.0),
        ]
    )
    assert table.corruptions == ("Fog", "Rain")
    assert table.rows["Fog"]["perception"] == 50
    assert table.mean_corrupted["perception"] == 25  # each corruption counts once
    assert table.drop["perception"] == 50
    assert table.no_image_drop["perception"] == 50
    assert table.rows["clean"]["planning"] is None
    assert table.drop["planning"] is None
    assert table.questions["Fog"]["perception"] == 2


def test_the_judges_table_takes_judged_answers_only() -> None:
    judged = [SettingScore(str(points), "planning", "clean", None, judged=points) for points in (40.0, 60.0)]
    table = judge_table([*judged, SettingScore("failed", "planning", "clean", None)])
    assert table.rows == {"clean": {"perception": None, "prediction": None, "planning": 50.0, "behavior": None}}
    assert table.mean_corrupted["planning"] is None
