from __future__ import annotations

from dataclasses import replace

from data.cascade import HEADING, cascaded, earlier_answers, first_answers, in_context
from data.sample import DrivingSample, Kind, Task


def sample(task: Task, question: str, answer: str, frame: str = "f", **choices: str) -> DrivingSample:
    kind: Kind = "multiple_choice" if choices else "open_ended"
    return DrivingSample(f"{frame}-{question}", "s", frame, task, kind, question, answer, {}, choices)


SEEN = sample("perception", "What is ahead?", "B", A="A car.", B="A bus.")
NEXT = sample("prediction", "Will it move?", "Yes.")
DONE = sample("behavior", "What do you do?", "Stop.")


def test_a_question_comes_with_the_true_answers_of_the_tasks_before_it() -> None:
    others = [replace(DONE, frame_id="g"), replace(DONE, scene_id="another")]
    seen, following, done, *elsewhere = cascaded([SEEN, NEXT, DONE, *others])
    assert seen is SEEN
    assert following.question == f"{HEADING}\n- What is ahead? B. A bus.\nWill it move?"
    assert done.question == f"{HEADING}\n- What is ahead? B. A bus.\n- Will it move? Yes.\nWhat do you do?"
    assert [one.question for one in elsewhere] == ["What do you do?"] * 2
    assert (done.id, done.answer, done.images) == (DONE.id, DONE.answer, DONE.images)


def test_only_the_first_question_of_a_task_is_shown() -> None:
    said = first_answers([(NEXT, "No."), (replace(NEXT, question="And later?"), "Yes.")])
    assert earlier_answers(DONE, said) == [("Will it move?", "No.")]


def test_nothing_earlier_leaves_the_sample_as_it_is() -> None:
    assert in_context(DONE, []) is DONE
