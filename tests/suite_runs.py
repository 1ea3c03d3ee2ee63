"""Folders of benchmark runs, made up: DriveBench in 17 settings, BDD-OIA with its bars, and one plain table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.corruptions.corruption import CORRUPTIONS
from data.formats.bdd_oia_words import ACTION_TEXTS, REASONS
from data.sample import TASKS, Task
from evaluation.held_out import AnswerRecord
from evaluation.suites.record import NO_VALUE, Cost, SuiteRecord, spread
from evaluation.suites.suite import Bars, Table

SETTINGS = ("clean", *(corruption.name for corruption in CORRUPTIONS), "no_image")
COST = Cost(response_tokens=214.6, image_tokens=2304.0, seconds_per_question=1.843, overlong_share=0.0125)
NO_COST = Cost(response_tokens=None, image_tokens=None, seconds_per_question=None, overlong_share=None)


def answer(images: dict[str, str], number: int = 0, task: Task = "behavior", **changes: Any) -> AnswerRecord:
    """An answer at 25 of 100 to a question of two options, asked with `images`."""
    plain: dict[str, Any] = {
        "sample_id": f"{task}-{number}",
        "scene_id": "da41ecbc644b4915b84bb732e35ebf8c",
        "task": task,
        "kind": "multiple_choice",
        "question": "What is <c1,CAM_BACK,0.5073,0.5778> doing? A. Going ahead. B. Turn left.",
        "choices": {"A": "Going ahead.", "B": "Turn left."},
        "images": images,
        "ground_truth": "A",
        "response": "B. It turns left, since its front wheels are turned.",
        "finish_reason": "stop",
        "token_count": 14,
        "value": 25.0,
        "parts": {"judge": 25.0},
        "failure": None,
    }
    return AnswerRecord(**plain | changes)


def record(**changes: Any) -> SuiteRecord:
    """A run of a benchmark with one plain table."""
    plain: dict[str, Any] = {
        "suite": "driveaction",
        "title": "DriveAction: vision, language and action questions of real drives",
        "model": "runs/driverx/policy",
        "sampling": {"temperature": 0.0, "repeats": 1, "max_tokens": 1024, "judge": None, "seed": 0},
        "sources": {"answers": "/data/driveaction"},
        "started_at": "2026-11-20T09:30:00+00:00",
        "questions": 1,
        "settings": ("",),
        "figures": {"accuracy": spread([61.25])},
        "tables": (Table("Accuracy (%)", ("V-L-A", "V-A", "L-A", "A"), (("this model", (61.25, 60.0, None, 55.5)),)),),
        "bars": (),
        "cost": COST,
        "faults": {},
    }
    return SuiteRecord(**plain | changes)


def _drivebench_tables() -> tuple[Table, ...]:
    """A table for each task, with rows of papers beside one of them."""
    columns = (*SETTINGS[:-1], "mean corrupted", "no image", "drop corrupted", "drop no image")

    def row(start: float) -> tuple[float | None, ...]:
        values = [start - 1.37 * (number % 7) for number in range(len(SETTINGS) - 1)]
        mean = sum(values[1:]) / len(values[1:])
        return (*values, mean, start - 9.5, start - mean, 9.5)

    published = (
        ("DriveRX (its paper, Table 2)", (62.02, *[None] * 15, 55.24, None, 6.78, None)),
        ("GPT-4o (DriveBench, Table 3)", (55.04, *[None] * 15, 53.97, None, 1.07, None)),
    )
    return tuple(
        Table(
            f"{task.capitalize()}, judge's score (0–100)",
            columns,
            (("driverx-8b, step 400", row(70.0 - 6 * number)), ("before training", row(58.0 - 6 * number))),
            published if task == "behavior" else (),
            "The papers judged with GPT-3.5 Turbo, this run with Qwen2.5-72B-Instruct." if task == "behavior" else "",
        )
        for number, task in enumerate(TASKS)
    )


def _drivebench_bars() -> tuple[Bars, ...]:
    """A bar for each setting and task, and how far scores fall."""
    return (
        Bars(
            "Judge's score by setting",
            "0–100",
            tuple(setting.replace("_", " ") for setting in SETTINGS),
            tuple(
                (task, tuple(None if (at + number) % 11 == 10 else 70.0 - 6 * number - at for at in range(17)))
                for number, task in enumerate(TASKS)
            ),
            100.0,
        ),
        Bars(
            "Fall from clean images",
            "points",
            TASKS,
            (("corrupted", (4.1, 2.2, -1.3, None)), ("no image", (9.5, 12.4, 3.0, 0.0))),
        ),
    )


def drivebench(images: dict[str, str]) -> tuple[SuiteRecord, list[AnswerRecord]]:
    """Two repeats in 17 settings: a table for each task, rows of papers, judgements that failed."""
    answers = [
        answer(
            {} if setting == "no_image" else images,
            number,
            task,
            setting=setting,
            repeat=repeat,
            value=5.0 * ((number + 6 * at) % 21),
            parts={"judge": 5.0 * ((number + 6 * at) % 21)},
            failure="judge: TimeoutError: no reply in 60 s" if (number + at) % 40 == 39 else None,
            finish_reason="length" if number == 3 else "stop",
        )
        for repeat in range(2)
        for at, setting in enumerate(SETTINGS)
        for task in TASKS
        for number in range(4)
    ]
    figures = {
        "score": spread([57.25, 58.75]),
        "score/clean": spread([64.0, 63.0]),
        "score/mean_corrupted": spread([58.125, 58.375]),
        "score/no_image": spread([51.5, None]),
        "accuracy/clean": spread([71.0, 70.5]),
        "relative_drop": None,
    }
    return record(
        suite="drivebench",
        title="DriveBench: driving questions with clean, corrupted and missing images",
        model="/cluster/scratch/experiments/2026-11/driverx-8b-align-ds-v/checkpoints/step_000400/policy",
        sampling={
            "temperature": 0.6,
            "repeats": 2,
            "max_tokens": 2048,
            "judge": "Qwen/Qwen2.5-72B-Instruct",
            "seed": 0,
        },
        sources={
            "answers": "/data/drivebench/drivebench-test.json",
            "image-root": "/data/nuscenes",
            "corrupted": "/data/corruption",
        },
        questions=len(answers) // 2,
        settings=SETTINGS,
        figures=figures,
        tables=_drivebench_tables(),
        bars=_drivebench_bars(),
        faults={"malformed_entry": 3, "has_no_prediction": 1204, "judge": 12},
        notes=(
            "The judge is not the one of the papers: figures of the two are not to be compared.",
            "H256ABRCompression was encoded with libx265 4.1.",
        ),
    ), answers


def _bdd_oia_bars() -> tuple[Bars, ...]:
    """Of 4 actions and 21 reasons with long names."""
    reasons = tuple(reason.text for reason in REASONS)
    actions = tuple(ACTION_TEXTS.values())

    def shares(of: Sequence[str], start: float, step: float) -> tuple[float, ...]:
        return tuple(round(max(start - step * number, 0.0), 2) for number in range(len(of)))

    scored = tuple(None if number in (5, 13) else (97.0 * (number * 7 % 21)) / 21 for number in range(21))
    return (
        Bars(
            "Actions",
            "% of frames",
            actions,
            (("annotated", shares(actions, 58.2, 14.1)), ("answered", shares(actions, 66.0, 19.3))),
            100.0,
        ),
        Bars("F1 by action", "%", actions, (("F1", (71.3, 64.25, 12.0, None)),), 100.0),
        Bars(
            "Reasons",
            "% of frames",
            reasons,
            (("annotated", shares(reasons, 31.0, 1.7)), ("answered", shares(reasons, 42.0, 2.6))),
        ),
        Bars("F1 by reason", "%", reasons, (("F1", scored),), 100.0),
    )


def bdd_oia(images: dict[str, str]) -> tuple[SuiteRecord, list[AnswerRecord]]:
    """Bars of 4 actions and 21 reasons with long names; single answers have no value."""
    front = {camera: path for camera, path in images.items() if camera == "CAM_FRONT"}
    columns = ("F1 all", "mF1", "accuracy", "exact match")
    tables = (
        Table(
            "Actions (%)",
            columns,
            (("this model", (61.2, 49.04, 78.9, 41.3)),),
            (("BDD-OIA's own model (Xu et al. 2020)", (73.4, 71.8, None, None)),),
            "It was trained on BDD-OIA; this model never saw it.",
        ),
        Table("Reasons (%)", columns, (("this model", (33.1, 18.74, 88.2, 9.6)),)),
    )
    answers = [
        answer(
            front,
            number,
            kind="structured",
            question="Which actions are possible, and why?",
            choices={},
            ground_truth="Action: stop/slow down. Reason: obstacle: car.",
            failure=NO_VALUE,
            value=0.0,
            response="" if number else "Action: forward.",
        )
        for number in range(3)
    ]
    return record(
        suite="bdd_oia",
        title="BDD-OIA: actions and their reasons",
        sampling={"temperature": 0.0, "repeats": 1, "max_tokens": 512},
        sources={"actions": "/data/bdd/test_actions.json", "reasons": "/data/bdd/test_reasons.json"},
        questions=3,
        figures={
            "actions_f1_all": spread([61.2]),
            "reasons_f1_all": spread([33.1]),
            "actions_mf1": spread([49.04]),
            "reasons_mf1": spread([18.74]),
        },
        tables=tables,
        bars=_bdd_oia_bars(),
        cost=Cost(response_tokens=31.0, image_tokens=None, seconds_per_question=0.212, overlong_share=0.0),
        faults={"confused_label": 17},
    ), answers
