"""DriveLMM-o1's metrics: twelve marks of a judge on the reasoning, and accuracy on multiple choice. No torch, no ray.

The judge is an argument; its instructions are the rubric `drivelmm_o1`. The option is read in every spelling, or
by its text: the official script knows "A)" alone, in upper case.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data.formats.drivelmm_o1 import CHOICE_NUMBERS, lettered_options
from data.reading.rules import extract_option, option_of
from data.sample import DrivingSample
from evaluation.metrics.judging import NOT_JUDGED
from evaluation.metrics.predictions import match
from evaluation.metrics.result import SuiteResult
from rewards.answer import answer_part
from rewards.judge import JudgeFailed, Judgement, JudgeRequest
from rewards.rubric import load_rubric

METRICS: dict[str, str] = {
    "faithfulness_step": "Faithfulness-Step",
    "informativeness_step": "Informativeness-Step",
    "risk_assessment_accuracy": "Risk Assessment Accuracy",
    "traffic_rule_adherence": "Traffic Rule Adherence",
    "scene_awareness_object_understanding": "Scene Awareness & Object Understanding",
    "repetition_token": "Repetition-Token",
    "hallucination": "Hallucination",
    "semantic_coverage_step": "Semantic Coverage-Step",
    "commonsense_reasoning": "Commonsense Reasoning",
    "missing_step": "Missing Step",
    "relevance": "Relevance",
    "missing_details": "Missing Details",
}
"""Key in the judge's sheet to the benchmark's name."""
OVERALL = "overall_score"
LETTERS = "ABCDEF"

NO_TRUE_LETTER = "no_true_letter"


@dataclass(frozen=True, slots=True)
class ReasoningTruth:
    """A question with the annotators' steps and final answer, as in the test file."""

    question: str
    steps: str
    final_answer: str


@dataclass(frozen=True, slots=True)
class DriveLmmO1Result(SuiteResult):
    """DriveLMM-o1's figures; a part without samples is None or empty."""

    judged: int
    metrics: dict[str, float]
    """Benchmark's name to mean mark, 1-10."""
    overall_score: float | None
    """The judge's own overall mark, mean times 10: the benchmark's reasoning score."""
    metrics_mean: float | None
    """Mean of the twelve metrics times 10, which needs no arithmetic of the judge."""
    judge_failures: dict[str, int]
    choices: int
    """Multiple-choice questions scored."""
    unreadable: int
    """Those whose output names no one letter; they count as wrong."""
    mcq_accuracy: float | None
    """Percent."""


def is_choice(id_: str) -> bool:
    """Whether a question is multiple choice, by the number at the end of its id (`scene_frame_k`)."""
    number = id_.rpartition("_")[2]
    return number.isdecimal() and int(number) in CHOICE_NUMBERS


def final_letter(text: str, question: str = "") -> str | None:
    """The option an output settles on, read by `data.reading.rules.option_of`; the options are the question's.

    "Final Answer: b.", "**Final Answer**: (B)", a bare "B) Slow down." and the text of B are B; "A or B" is none.
    """
    answer, choices = answer_part(text), lettered_options(question)
    return option_of(answer, choices) if choices else extract_option(answer, LETTERS)


def reasoning_request(id_: str, truth: ReasoningTruth, text: str) -> JudgeRequest:
    """What the judge is asked about one output; the reference is the annotators' steps and final answer."""
    reference = f"{truth.steps.strip()}\nFinal answer: {truth.final_answer.strip()}"
    sample = DrivingSample(
        id=id_,
        scene_id="",
        frame_id="",
        task="perception",
        kind="open_ended",
        question=truth.question,
        answer=reference,
        images={},
    )
    return load_rubric("drivelmm_o1").request(sample, text)


def choice_verdict(id_: str, truth: ReasoningTruth, text: str) -> bool | None:
    """Whether an output picks the true option; None where the question has none, or its truth names no letter."""
    true = final_letter(truth.final_answer, truth.question) if is_choice(id_) else None
    return None if true is None else final_letter(text, truth.question) == true


def score(
    predictions: Mapping[str, str],
    answers: Mapping[str, ReasoningTruth],
    *,
    strict: bool = False,
    judgements: Mapping[str, Judgement | JudgeFailed] | None = None,
    left_out: Iterable[str] = (),
) -> DriveLmmO1Result:
    """Score outputs.

    Args:
        predictions: output by question id.
        answers: truth by question id; the id says whether it is multiple choice.
        strict: refuse questions without an output and outputs without a question; else they are listed and left out.
        judgements: what a judge said of `reasoning_request`, by id; without, the reasoning is not scored.
        left_out: ids of the questions whose truth cannot be used; an output for one is passed over.

    Raises:
        DataError: no output belongs to a question; with `strict`, any fault.
    """
    matched = match(predictions, answers, strict=strict, left_out=left_out)
    faults = dict(matched.faults)
    right: list[bool] = []
    unreadable = 0
    for id_ in filter(is_choice, matched.ids):
        question = answers[id_].question
        true = final_letter(answers[id_].final_answer, question)
        if true is None:
            faults.setdefault(NO_TRUE_LETTER, []).append(id_)
            continue
        said = final_letter(predictions[id_], question)
        unreadable += said is None
        right.append(said == true)
    judged: list[Judgement] = []
    failures: dict[str, int] = {}
    for id_ in matched.ids if judgements is not None else ():
        found = (judgements or {}).get(id_)
        if isinstance(found, Judgement):
            judged.append(found)
        else:
            reason = found.reason if found is not None else NOT_JUDGED
            failures[reason] = failures.get(reason, 0) + 1
    means = {key: statistics.fmean(one.points[key] for one in judged) for key in METRICS} if judged else {}
    return DriveLmmO1Result(
        scored=len(matched.ids),
        faults=faults,
        judged=len(judged),
        metrics={METRICS[key]: mean for key, mean in means.items()},
        overall_score=10.0 * statistics.fmean(one.points[OVERALL] for one in judged) if judged else None,
        metrics_mean=10.0 * statistics.fmean(means.values()) if means else None,
        judge_failures=failures,
        choices=len(right),
        unreadable=unreadable,
        mcq_accuracy=100.0 * statistics.fmean(right) if right else None,
    )
