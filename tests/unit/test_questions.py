"""Questions in DriveLM's formats, whose answers follow from the scene and from nothing in the text."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from data.rendered.questions import LETTERS, OPTIONS_INTRODUCTION, Question, questions_of
from data.rendered.scene import BEHAVIORS, build_scene
from data.sample import TASKS

SCENES = [build_scene(index, seed=11) for index in range(600)]
QUESTIONS = [question for scene in SCENES for question in questions_of(scene)]
TAG = r"<c\d+,CAM_[A-Z_]+,\d+\.\d,\d+\.\d>"
SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "drivelm" / "challenge" / "data" / "train_sample.json"


def of_task(task: str) -> list[Question]:
    return [question for question in QUESTIONS if question.task == task]


def test_every_scene_asks_about_all_four_tasks() -> None:
    for scene in SCENES[:20]:
        assert {question.task for question in questions_of(scene)} == set(TASKS)


def test_all_the_short_kinds_occur() -> None:
    assert {q.kind for q in QUESTIONS} == {"multiple_choice", "yes_no", "coordinates", "open_ended"}


def test_a_choice_lists_its_options_as_drivelm_does_and_answers_with_the_letter() -> None:
    for question in (q for q in QUESTIONS if q.kind == "multiple_choice"):
        listed = " ".join(f"{letter}. {text}" for letter, text in question.choices.items())
        assert question.question.endswith(f" {OPTIONS_INTRODUCTION} {listed}")
        assert tuple(question.choices) == tuple(LETTERS)
        assert len(set(question.choices.values())) == len(LETTERS)
        assert question.answer in question.choices


def test_the_right_behavior_is_the_one_of_the_scene() -> None:
    for scene in SCENES:
        behavior = next(q for q in questions_of(scene) if q.task == "behavior")
        assert behavior.choices[behavior.answer] == scene.behavior
        assert set(behavior.choices.values()) <= set(BEHAVIORS)


def test_options_without_pictures_give_no_letter_away() -> None:
    by_options: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for question in of_task("behavior"):
        by_options[tuple(question.choices.values())][question.answer] += 1
    right = sum(max(answers.values()) for answers in by_options.values())  # the best answer hindsight gives per list
    half = len(SCENES) // 2
    learnt = {options: answers.most_common(1)[0][0] for options, answers in _answers(SCENES[:half]).items()}
    tested = _answers(SCENES[half:])
    blind = sum(answers[learnt.get(options, "A")] for options, answers in tested.items()) / half
    assert right > 0
    assert blind < 0.34
    letters = Counter(question.answer for question in of_task("behavior"))
    assert max(letters.values()) / len(SCENES) < 0.32


def _answers(scenes: list) -> dict[tuple[str, ...], Counter[str]]:
    table: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for scene in scenes:
        question = next(q for q in questions_of(scene) if q.task == "behavior")
        table[tuple(question.choices.values())][question.answer] += 1
    return table


def test_coordinates_answer_with_the_tag_of_the_object_that_decides() -> None:
    for scene in SCENES:
        first = next(q for q in questions_of(scene) if q.kind == "coordinates")
        assert re.fullmatch(TAG, first.answer)
        assert first.answer == scene.objects[0].tag(1)


def test_no_question_has_one_answer_for_all_scenes() -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in QUESTIONS:
        answers[re.sub(TAG, "TAG", question.question.split(OPTIONS_INTRODUCTION)[0])][question.answer] += 1
    for wording, counts in answers.items():
        assert max(counts.values()) / sum(counts.values()) < 0.65, wording


@pytest.mark.skipif(not SAMPLE.exists(), reason="no DriveLM sample beside the repository")
def test_the_wording_is_drivelms_own() -> None:
    real = {
        re.sub(TAG, "TAG", pair["Q"])
        for scene in json.loads(SAMPLE.read_text()).values()
        for frame in scene["key_frames"].values()
        for pairs in frame["QA"].values()
        for pair in pairs
    }
    for question in QUESTIONS:
        wording = re.sub(TAG, "TAG", question.question).split(f" {OPTIONS_INTRODUCTION}")[0]
        assert any(text.startswith(wording) for text in real), wording
