"""Samples with synthetic scores, as a benchmark's run leaves them, and `prepare_data.py build` on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.sample import DrivingSample
from evaluation.suites.record import write_record
from prepare_data import main
from tests.drawn import draw
from tests.loaded import load_as
from tests.suite_runs import answer, record

WORDS = ("straight. The ego vehicle is driving slowly.", "straight. The ego vehicle is driving slowly.", "to the left.")

Value = Callable[[DrivingSample, int], float]


def drawn_samples(folder: Path) -> list[DrivingSample]:
    """Twelve frames of four scenes, each with a question of three tasks; the first frame has one with a fault more."""
    samples = []
    for number in range(12):
        image = str(draw(folder / "images" / f"{number}.jpg", number * 20))
        plain = DrivingSample("", f"scene-{number % 4}", f"frame-{number}", "perception", "yes_no", "", "Yes.", {})
        behavior = f"The ego vehicle is going {WORDS[number % 3]}"
        for task, kind, truth in (
            ("perception", "yes_no", "Yes."),
            ("planning", "open_ended", "Brake."),
            ("behavior", "open_ended", behavior),
        ):
            samples.append(
                replace(
                    plain,
                    id=f"frame-{number}_{task}",
                    task=task,
                    kind=kind,  # type: ignore[arg-type]
                    question=f"What of {task}?",
                    answer=truth,
                    images={"CAM_FRONT": image},
                )
            )
    doubled = {"A": "Going ahead.", "B": "going ahead"}
    faulty = replace(samples[0], id="faulty", kind="multiple_choice", question="Which?", answer="A", choices=doubled)
    return [*samples, faulty]


def frame_number(sample: DrivingSample) -> int:
    return int(sample.frame_id.rpartition("-")[2])


def ten_each(sample: DrivingSample, repeat: int) -> float:
    """Frame n has D = 5 n: eight answers from 3.5 below to 3.5 above its mean, or all nought."""
    middle = 5.0 * frame_number(sample)
    return middle + (repeat - 3.5 if middle else 0.0)


def shifted(value: Value, by: float) -> Value:
    return lambda sample, repeat: value(sample, repeat) + by


def scored(
    folder: Path,
    samples: Sequence[DrivingSample],
    value: Value,
    repeats: int = 8,
    failed: Callable[[DrivingSample, int], bool] = lambda sample, repeat: False,
    judge: str | None = None,
    **changed: Any,
) -> Path:
    """The folder of a run in which each answer had that value, by rules or by a judge."""
    answers = [
        answer(
            sample.images,
            task=sample.task,
            sample_id=sample.id,
            scene_id=sample.scene_id,
            kind=sample.kind,
            choices=sample.choices,
            ground_truth=sample.answer,
            response="Some say\u2028this.",
            value=value(sample, repeat),
            failure="judge: timed out" if failed(sample, repeat) else None,
            question=sample.question,
            repeat=repeat,
        ).model_copy(update=changed)
        for sample in samples
        for repeat in range(repeats)
    ]
    made = record(suite="drivelm_hard", model=f"models/{folder.name}")
    write_record(folder, made.model_copy(update={"sampling": made.sampling | {"judge": judge}}), answers)
    return folder


def build(which: str, folder: Path, out: str, *more: object) -> int:
    return main(["build", which, str(folder / "own.jsonl"), "--out", str(folder / out), *map(str, more)])


def training(folder: Path, out: str, *more: object) -> int:
    return build("training", folder, out, "--scores", f"align={folder / 'align'}", *more)


def ids(path: Path) -> list[str]:
    return [sample.id for sample in load_as("jsonl", path).samples]


def frames(path: Path) -> set[str]:
    return {sample.frame_id for sample in load_as("jsonl", path).samples}
