"""Held-out measurement: the choice of questions, swapped images, and the arithmetic of a summary."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.sample import CAMERAS, DrivingSample, Kind, Task
from evaluation.held_out import EvaluationResult, Judged, choose, summarize, with_swapped_images
from rewards.score import Score


def sample(
    number: int,
    task: Task = "behavior",
    kind: Kind = "multiple_choice",
    answer: str = "A",
    scene: int | None = None,
    frame: int = 0,
    choices: dict[str, str] | None = None,
) -> DrivingSample:
    scene_id = f"scene-{number if scene is None else scene}"
    frame_id = f"{scene_id}-frame-{frame}"
    letters = {"A": "Going ahead.", "B": "Stopped."} if choices is None else choices
    return DrivingSample(
        id=f"{task}-{number}",
        scene_id=scene_id,
        frame_id=frame_id,
        task=task,
        kind=kind,
        question="What now?",
        answer=answer,
        images={camera: f"/{frame_id}/{camera}.jpg" for camera in CAMERAS},
        choices=letters if kind == "multiple_choice" else {},
    )


def judged(of: DrivingSample, text: str, value: float, failure: str | None = None, tokens: int = 1) -> Judged:
    return Judged(of, text, "stop", Score(value, {"option": value}, failure=failure), tokens)


def test_the_choice_depends_on_ids_and_seed_and_not_on_order() -> None:
    samples = [sample(number, task=task) for number in range(30) for task in ("perception", "behavior")]
    shuffled = random.Random(1).sample(samples, len(samples))
    assert choose(samples, 10, seed=0) == choose(shuffled, 10, seed=0)
    assert choose(samples, 10, seed=0) != choose(samples, 10, seed=1)


def test_the_choice_takes_at_most_so_many_of_each_task() -> None:
    samples = [sample(number, task="perception") for number in range(30)] + [sample(99, task="behavior")]
    chosen = choose(samples, 5, seed=0)
    assert [one.task for one in chosen] == ["perception"] * 5 + ["behavior"]
    assert len({one.id for one in chosen}) == 6


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30))
def test_swapped_images_are_never_of_the_own_scene_and_change_nothing_else(places: list[tuple[int, int]]) -> None:
    samples = [sample(number, scene=scene, frame=frame) for number, (scene, frame) in enumerate(places)]
    if len({one.scene_id for one in samples}) < 2:
        with pytest.raises(DataError, match="of one scene"):
            with_swapped_images(samples)
        return
    swapped = with_swapped_images(samples)
    assert swapped == with_swapped_images(samples)
    frames = {tuple(one.images.values()): one.scene_id for one in samples}
    lenders: dict[str, str] = {}
    for before, after in zip(samples, swapped, strict=True):
        lender = frames[tuple(after.images.values())]
        assert lender != before.scene_id
        assert lenders.setdefault(before.scene_id, lender) == lender
        assert after.id != before.id
        assert replace(after, id=before.id, frame_id=before.frame_id, images=before.images) == before
    assert len(set(lenders.values())) == len(lenders)


def test_the_reward_is_the_mean_of_the_tasks_and_not_of_the_answers() -> None:
    answers = [judged(sample(number, task="perception"), "A", 100.0) for number in range(3)]
    answers += [judged(sample(9, task="behavior"), "B", 0.0)]
    result = summarize("before", 4, answers)
    assert result.reward == pytest.approx(50.0)
    assert result.tasks["perception"].reward == pytest.approx(100.0)
    assert (result.samples, result.weight_version, set(result.tasks)) == (4, 4, {"perception", "behavior"})


def test_a_failed_score_is_counted_and_is_no_zero() -> None:
    answers = [judged(sample(0), "A", 100.0), judged(sample(1), "A", 0.0, failure="judge: timeout after 30 s")]
    result = summarize("before", 0, answers)
    assert result.tasks["behavior"].reward == 100.0
    assert result.tasks["behavior"].masked == 1
    assert result.behavior_accuracy == 1.0
    assert result.masked == {"judge": 1}


def test_with_every_score_failed_there_is_no_reward() -> None:
    result = summarize("before", 0, [judged(sample(0), "A", 0.0, failure="judge")])
    assert (result.reward, result.behavior_accuracy, result.tasks["behavior"].accuracy) == (None, None, None)


def test_accuracy_is_found_by_rule_of_closed_questions_only_whatever_the_reward_is() -> None:
    answers = [
        judged(sample(0, task="perception"), "A. Going ahead.", 40.0),
        judged(sample(1, task="perception", kind="yes_no", answer="Yes."), "No.", 0.0),
        judged(sample(2, task="perception", kind="open_ended", answer="A car."), "A car.", 100.0),
    ]
    perception = summarize("before", 0, answers).tasks["perception"]
    assert (perception.choice_samples, perception.accuracy) == (2, 0.5)


def test_the_majority_answer_is_the_most_frequent_letter() -> None:
    right = [judged(sample(number, answer="B" if number < 3 else "A", choices={}), "A", 0.0) for number in range(4)]
    behavior = summarize("before", 0, right).tasks["behavior"]
    assert (behavior.majority_accuracy, behavior.majority_answer) == (0.75, "B")


def test_the_majority_answer_is_a_text_where_that_is_right_more_often() -> None:
    # The letter changes from question to question, the right text is nearly always the same.
    letters = "ABCD"
    answers = []
    for number in range(8):
        order = [*range(number % 4, 4), *range(number % 4)]
        texts = ["Going ahead.", "Stopped.", "Turn left.", "Turn right."]
        choices = {letter: texts[index] for letter, index in zip(letters, order, strict=True)}
        truth = next(letter for letter, text in choices.items() if text == "Going ahead.")
        answers.append(judged(sample(number, answer=truth, choices=choices), truth, 100.0))
    behavior = summarize("before", 0, answers).tasks["behavior"]
    assert (behavior.majority_accuracy, behavior.majority_answer) == (1.0, "Going ahead.")


def test_yes_and_no_questions_have_a_majority_of_their_own() -> None:
    truths = ["Yes.", "Yes, there are cars.", "No.", "yes"]
    answers = [judged(sample(n, kind="yes_no", answer=truth), "No.", 0.0) for n, truth in enumerate(truths)]
    answers += [judged(sample(10 + number), "A", 100.0) for number in range(4)]
    assert summarize("before", 0, answers).tasks["behavior"].majority_accuracy == 7 / 8


def test_valid_format_and_length_cover_every_answer() -> None:
    answers = [judged(sample(0), "B.", 0.0, tokens=2), judged(sample(1), "who knows", 0.0, tokens=4)]
    answers.append(replace(answers[0], finish_reason="length", token_count=64))
    behavior = summarize("before", 0, answers).tasks["behavior"]
    assert behavior.valid_format == pytest.approx(2 / 3)
    assert behavior.response_tokens == pytest.approx(70 / 3)
    assert behavior.overlong_share == pytest.approx(1 / 3)


def test_a_result_survives_json() -> None:
    answers = [judged(sample(0), 'a "quoted" <c1,CAM_FRONT,1.0,2.0> answer', 33.3), judged(sample(1), "", 0.0, "judge")]
    result = summarize("after", 7, answers)
    assert EvaluationResult.from_json(result.to_json()) == result
    assert result.answers[0].response == answers[0].text


def test_a_summary_of_nothing_is_empty() -> None:
    result = summarize("before", 0, [])
    assert (result.samples, result.reward, result.tasks, result.scenes) == (0, None, {}, ())
