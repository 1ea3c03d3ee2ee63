"""Questions about a `Scene` in DriveLM's own wording and formats, with answers from the scene's ground truth.

Reads the ground truth only, never the pictures. The other options of a choice are drawn at random and every behavior
is equally likely, so nobody answers above the majority letter without seeing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from data.rendered.scene import BEHAVIORS, STATUSES, Scene, Situation, build_scene
from data.sample import DrivingSample, Kind, Task

LETTERS = "ABCD"
OPTIONS_INTRODUCTION = "Please select the correct answer from the following options:"
SAFE_ACTIONS: dict[Situation, str] = {
    "red_light": "Brake gently to a stop, slightly offset to the right.",
    "pedestrian": "Brake suddenly, brake gently to a stop.",
    "lead_vehicle": "Keep going at the same speed, decelerate gradually without braking.",
    "green_light": "Keep going at the same speed, accelerate, and proceed ahead.",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer, before it is tied to image files; the fields are those of `DrivingSample`."""

    task: Task
    kind: Kind
    question: str
    answer: str
    choices: dict[str, str] = field(default_factory=dict)


def questions_of(scene: Scene) -> list[Question]:
    """All questions of a scene: two of each task but behavior, which has one. Deterministic in the scene."""
    rng = random.Random(f"questions {scene.id}")
    return [*_perception(scene, rng), *_prediction(scene), *_planning(scene), _behavior(scene, rng)]


def samples_of(scene: Scene, images: dict[str, str]) -> list[DrivingSample]:
    """The questions of a scene as samples with the given image files (camera to absolute path)."""
    objects = scene.key_objects()
    return [
        DrivingSample(
            id=f"{scene.id}_frame-0_{number}",
            scene_id=scene.id,
            frame_id=f"{scene.id}_frame-0",
            task=q.task,
            kind=q.kind,
            question=q.question,
            answer=q.answer,
            images=images,
            choices=q.choices,
            objects=objects,
        )
        for number, q in enumerate(questions_of(scene))
    ]


def driving_text(scenes: int = 400, seed: int = 0) -> Iterator[str]:
    """Questions and answers of that many scenes, one text each: what a tokenizer is trained on. Draws nothing."""
    for index in range(scenes):
        for question in questions_of(build_scene(index, seed)):
            yield question.question
            yield question.answer


def multiple_choice(task: Task, question: str, correct: str, possible: Sequence[str], rng: random.Random) -> Question:
    """The question with `correct` and three others of `possible`, listed in that order; the answer is the letter.

    Which letter is right stays open to the blind: all `possible` are equally likely given the list. A fixed order
    lets a small policy gain from seeing before it has learnt to compare what it sees with the list.
    """
    others = rng.sample([option for option in possible if option != correct], len(LETTERS) - 1)
    options = [option for option in possible if option == correct or option in others]
    choices = dict(zip(LETTERS, options, strict=True))
    listed = " ".join(f"{letter}. {text}" for letter, text in choices.items())
    return Question(
        task, "multiple_choice", f"{question} {OPTIONS_INTRODUCTION} {listed}", LETTERS[options.index(correct)], choices
    )


def _yes_no(task: Task, question: str, truth: bool) -> Question:
    return Question(task, "yes_no", question, "Yes." if truth else "No.")


def _perception(scene: Scene, rng: random.Random) -> Iterator[Question]:
    neighbour = scene.objects[1]
    assert neighbour.status is not None
    yield multiple_choice(
        "perception",
        f"What is the moving status of object {neighbour.tag(2)}?",
        neighbour.status,
        STATUSES,
        rng,
    )
    yield _yes_no("perception", "Are there moving cars to the back of the ego car?", scene.followed)


def _prediction(scene: Scene) -> Iterator[Question]:
    yield Question(
        "prediction",
        "coordinates",
        "What object should the ego vehicle notice first "
        "when the ego vehicle is getting to the next possible location?",
        scene.objects[0].tag(1),
    )
    roadside = scene.objects[2]
    yield _yes_no("prediction", f"Is {roadside.tag(3)} a traffic sign or a road barrier?", roadside.shape == "barrier")


def _planning(scene: Scene) -> Iterator[Question]:
    yield Question(
        "planning",
        "open_ended",
        "In this scenario, what are safe actions to take for the ego vehicle?",
        SAFE_ACTIONS[scene.situation],
    )
    target = {"straight": "Go straight.", "left": "Turn left.", "right": "Turn right."}[scene.bend]
    yield Question(
        "planning",
        "open_ended",
        "What is the target action of the ego vehicle?",
        "Stationary." if scene.situation == "red_light" else target,
    )


def _behavior(scene: Scene, rng: random.Random) -> Question:
    return multiple_choice("behavior", "Predict the behavior of the ego vehicle.", scene.behavior, BEHAVIORS, rng)
