"""DriveBench by rule, options and yes/no, and the robustness table. No torch, no ray.

DriveBench asks the same questions with clean images, under 15 corruptions and without images (zeros); what counts is
how far a figure falls from the first. Its official code reads the article in "B. The ego vehicle is approaching a car."
as option A, which is read right here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from data.reading.rules import extract_yes_no, option_of
from data.sample import TASKS, DrivingSample, Task
from rewards.answer import answer_part

CLEAN, NO_IMAGE = "clean", "no_image"
"""The settings that are no corruption; every other setting bears its corruption's name."""


@dataclass(frozen=True, slots=True)
class SettingScore:
    """One answer in one setting.

    `right` is None for a question that no rule decides; an answer that chooses nothing, or several options, is wrong
    and `unreadable`. `judged` is the judge's 0-100, None where there was none.
    """

    id: str
    task: Task
    setting: str
    right: bool | None
    unreadable: bool = False
    judged: float | None = None


@dataclass(frozen=True, slots=True)
class RobustnessTable:
    """A figure (0-100) per setting and task; None where a setting has no such question.

    `mean_corrupted` is the mean over the corruptions there are, each counting once; `drop` and `no_image_drop` are
    clean minus that and clean minus no image, in points.
    """

    rows: dict[str, dict[Task, float | None]]
    questions: dict[str, dict[Task, int]]
    corruptions: tuple[str, ...]
    mean_corrupted: dict[Task, float | None]
    drop: dict[Task, float | None]
    no_image_drop: dict[Task, float | None]


# --- one answer -------------------------------------------------------------------------------------------------------


def rule_score(sample: DrivingSample, setting: str, response: str, judged: float | None = None) -> SettingScore:
    """Score a response by rule where the question has options or asks yes or no; read is its answer part."""
    answer = answer_part(response)
    chosen: str | bool | None = None
    true: str | bool | None = None
    if sample.kind == "multiple_choice":
        chosen, true = option_of(answer, sample.choices), sample.answer
    elif sample.kind == "yes_no":
        chosen, true = extract_yes_no(answer), extract_yes_no(sample.answer)
    if true is None:
        return SettingScore(sample.id, sample.task, setting, None, judged=judged)
    return SettingScore(sample.id, sample.task, setting, chosen == true, chosen is None, judged)


# --- the table --------------------------------------------------------------------------------------------------------


def accuracy_table(scores: Iterable[SettingScore]) -> RobustnessTable:
    """Accuracy in percent over the questions that a rule decides."""
    return _table((score, 100.0 * score.right) for score in scores if score.right is not None)


def judge_table(scores: Iterable[SettingScore]) -> RobustnessTable:
    """The judge's mean over the answers it judged."""
    return _table((score, score.judged) for score in scores if score.judged is not None)


def _table(values: Iterable[tuple[SettingScore, float]]) -> RobustnessTable:
    cells: defaultdict[str, defaultdict[Task, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score, value in values:
        cells[score.setting][score.task].append(value)
    rows = {setting: {task: _mean(of[task]) for task in TASKS} for setting, of in cells.items()}
    corruptions = tuple(sorted(setting for setting in cells if setting not in (CLEAN, NO_IMAGE)))
    corrupted = {task: _mean([rows[setting][task] for setting in corruptions]) for task in TASKS}
    nothing: dict[Task, float | None] = dict.fromkeys(TASKS)
    clean, no_image = rows.get(CLEAN, nothing), rows.get(NO_IMAGE, nothing)
    return RobustnessTable(
        rows=rows,
        questions={setting: {task: len(of[task]) for task in TASKS} for setting, of in cells.items()},
        corruptions=corruptions,
        mean_corrupted=corrupted,
        drop=_drop(clean, corrupted),
        no_image_drop=_drop(clean, no_image),
    )


def _drop(clean: Mapping[Task, float | None], other: Mapping[Task, float | None]) -> dict[Task, float | None]:
    drops: dict[Task, float | None] = {}
    for task in TASKS:
        before, after = clean[task], other[task]
        drops[task] = None if before is None or after is None else before - after
    return drops


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
