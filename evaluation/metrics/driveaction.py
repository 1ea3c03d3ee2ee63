"""DriveAction's accuracy, per level of its tree of vision, language and action questions. No torch, no ray.

The mode says which upstream questions and answers stood in the prompt; accuracy on the action questions of the four
modes is what AutoDriveRL's Table 16 reports. Read by rule: one option letter, or true or false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from data.formats.driveaction import Mode
from data.reading.rules import extract_yes_no, option_of
from evaluation.metrics.predictions import match, refuse
from evaluation.metrics.result import SuiteResult
from rewards.answer import answer_part

MODES: tuple[Mode, ...] = get_args(Mode)

UNUSABLE_TRUTH = "unusable_truth"


@dataclass(frozen=True, slots=True)
class ActionTruth:
    """A question's true answer: an option letter where there are choices, else "True" or "False".

    `level` is its place in the tree from the root down, such as ("Action", "Navigation").
    """

    answer: str
    level: tuple[str, ...]
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LevelScore:
    """One node of the tree with all questions below it; an unreadable answer is wrong, accuracy is in percent."""

    questions: int
    right: int
    unreadable: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class DriveActionResult(SuiteResult):
    """DriveAction's figures in one mode."""

    mode: Mode | None
    accuracy: float
    """Percent of all questions scored; an answer that names no one option is wrong."""
    unreadable: int
    levels: dict[str, LevelScore]
    """Node, its steps joined by "/", to its score."""


def is_right(text: str, truth: ActionTruth) -> bool | None:
    """Whether an output gives the true answer; None when it gives none or several.

    Raises:
        ValueError: the truth is neither one of its choices nor true or false.
    """
    answer = answer_part(text)
    if truth.choices:
        true_letter = truth.answer.strip().upper()
        if true_letter not in truth.choices:
            raise ValueError(f"the true answer {truth.answer!r} is none of the options {', '.join(truth.choices)}")
        letter = option_of(answer, truth.choices)
        return None if letter is None else letter == true_letter
    true = extract_yes_no(truth.answer)
    if true is None:
        raise ValueError(f"the true answer {truth.answer!r} is neither true nor false, and there are no options")
    said = extract_yes_no(answer)
    return None if said is None else said == true


def score(
    predictions: Mapping[str, str],
    answers: Mapping[str, ActionTruth],
    *,
    strict: bool = False,
    mode: Mode | None = None,
    left_out: Iterable[str] = (),
) -> DriveActionResult:
    """Score the outputs of one mode.

    Args:
        predictions: output by question id.
        answers: truth by question id.
        strict: refuse missing and unknown ids and unusable truths; else they are listed and left out.
        mode: what stood in the prompts; kept with the result.
        left_out: ids of the questions whose truth cannot be used; an output for one is passed over.

    Raises:
        DataError: no output belongs to a question; with `strict`, any fault.
    """
    matched = match(predictions, answers, strict=strict, left_out=left_out)
    faults = dict(matched.faults)
    counts: dict[str, list[int]] = {}
    total = [0, 0, 0]
    for id_ in matched.ids:
        truth = answers[id_]
        try:
            right = is_right(predictions[id_], truth)
        except ValueError:
            faults.setdefault(UNUSABLE_TRUTH, []).append(id_)
            continue
        nodes = ["/".join(truth.level[: depth + 1]) for depth in range(len(truth.level))]
        for count in (total, *(counts.setdefault(node, [0, 0, 0]) for node in nodes)):
            count[0] += 1
            count[1] += right is True
            count[2] += right is None
    if strict or not total[0]:
        refuse({UNUSABLE_TRUTH: faults.get(UNUSABLE_TRUTH, [])}, "the answer file")
    return DriveActionResult(
        scored=total[0],
        faults=faults,
        mode=mode,
        accuracy=100.0 * total[1] / total[0],
        unreadable=total[2],
        levels={node: _level_score(*count) for node, count in sorted(counts.items())},
    )


def _level_score(questions: int, right: int, unreadable: int) -> LevelScore:
    return LevelScore(questions, right, unreadable, 100.0 * right / questions)
