"""The scorers a recipe can name: rules `(sample, response) -> 0-100`, your own by import path, the judge, and CLIP."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.coordinates import coordinate_pairs, without_coordinates
from data.sample import DrivingSample
from rewards.agreement import agreement
from rewards.alphadrive import has_plan, planning, planning_group
from rewards.answer import answer_part
from rewards.clip import AlignmentScorer
from rewards.coordinates import drivelm_match_f1, hybrid_coordinate_f1
from rewards.errors import RewardError
from rewards.format import is_right
from rewards.hybrid import has_hybrid, hybrid
from rewards.judge import Judge
from rewards.rubric import Rubric, load_rubric, rubric_for
from rewards.rules import exact_match, extract_yes_no
from rewards.score import Score
from rewards.settings import ClipSettings, JudgeSettings, RewardSettings
from rewards.structure import structure
from rewards.text import bleu, rouge_l

Scorer = Callable[[DrivingSample, str], float | Score]
"""A number from 0 to 100, or a whole `Score` whose parts are worth logging."""
JUDGE, CLIP = "judge", "clip"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A scorer of the house: it needs something of the ground truth, and reads the answer part of a response."""

    score: Scorer
    applies: Callable[[DrivingSample], bool]
    needs: str
    whole: bool = False
    """It reads the whole response, for its thinking or its form count."""
    group: Callable[[DrivingSample, Sequence[str]], list[Score]] | None = None
    """What the whole responses of a complete group are worth beside each other, where that matters."""

    def __call__(self, sample: DrivingSample, text: str) -> float | Score:
        """The score of a response, 0-100."""
        return self.score(sample, text if self.whole else answer_part(text))


@dataclass(frozen=True, slots=True)
class JudgeScorer:
    """Scores by an LLM judge: with the rubric that a recipe names, or the one for the sample's task and kind."""

    rubric: Rubric | None
    sees: Literal["answer", "response"]

    async def score(self, judge: Judge, sample: DrivingSample, text: str) -> Score:
        """The judge's value, with the points of each criterion as parts.

        Raises:
            JudgeFailed: there is no judgement.
        """
        rubric = self.rubric or load_rubric(rubric_for(sample))
        shown = text if self.sees == "response" else answer_part(text)
        judgement = await judge.judge(rubric.request(sample, shown))
        return Score(judgement.value, {name: float(points) for name, points in judgement.points.items()})


AnyScorer = Scorer | JudgeScorer | AlignmentScorer


def _closed(sample: DrivingSample, text: str) -> float:
    return 100.0 * is_right(sample, text)


def _exact_match(sample: DrivingSample, answer: str) -> float:
    return 100.0 * exact_match(answer, sample.answer)


def _words(sample: DrivingSample, text: str) -> str:
    """What BLEU and ROUGE_L read: of a structured answer only the words, its coordinates are scored apart."""
    return without_coordinates(text) if sample.kind == "structured" else text


PIXELS = "coordinates in the answer, in pixels"


def _has_pairs(sample: DrivingSample) -> bool:
    return sample.coordinate_unit == "pixels" and bool(coordinate_pairs(sample.answer))  # hits are within 16 pixels


def _has_answer(sample: DrivingSample) -> bool:
    return bool(sample.answer.strip())


BUILT_IN: dict[str, BuiltIn] = {
    "exact_match": BuiltIn(_exact_match, _has_answer, "an answer"),
    "option": BuiltIn(_closed, lambda sample: sample.answer in sample.choices, "choices, and an answer that is one"),
    "yes_no": BuiltIn(
        _closed, lambda sample: extract_yes_no(sample.answer) is not None, "an answer of yes or no, or true or false"
    ),
    "hybrid_coordinate_f1": BuiltIn(
        lambda sample, answer: hybrid_coordinate_f1(answer, sample.answer),
        _has_pairs,
        PIXELS,
    ),
    "drivelm_match_f1": BuiltIn(
        lambda sample, answer: drivelm_match_f1(answer, sample.answer),
        _has_pairs,
        PIXELS,
    ),
    "bleu": BuiltIn(
        lambda sample, answer: bleu(_words(sample, answer), _words(sample, sample.answer)), _has_answer, "an answer"
    ),
    "rouge_l": BuiltIn(
        lambda sample, answer: rouge_l(_words(sample, answer), _words(sample, sample.answer)), _has_answer, "an answer"
    ),
    # the rewards of AutoDriveRL's Appendix J, AlphaDrive, and BDD-OIA's R2 and R3
    "hybrid": BuiltIn(hybrid, has_hybrid, "a kind other than open_ended, and an answer of that kind"),
    "planning": BuiltIn(planning, has_plan, "an answer that names both kinds of meta-action", True, planning_group),
    "agreement": BuiltIn(agreement, _has_answer, "an answer"),
    "structure": BuiltIn(structure, lambda sample: True, "nothing", whole=True),
}


def find_scorer(name: str, setting: str, settings: RewardSettings) -> AnyScorer:
    """A scorer by name, the judge (`judge`, or `judge/<rubric>`), CLIP, or your own function by its import path.

    Your function, `package.module:function`, is called as `function(sample, text)` with the whole response
    (`rewards.answer.answer_part` gives the answer in it) and returns a number from 0 to 100, or a `Score`. Its module
    is found as by `import`.

    Raises:
        RewardError: the name is unknown, the rubric, module or function cannot be had, the function does not take two
            arguments, or the recipe has no judge or no CLIP.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name.partition("/")[0] == JUDGE:
        return _judge_scorer(name, setting, settings.judge)
    if name == CLIP:
        return _clip_scorer(setting, settings.clip)
    if ":" not in name:
        close = difflib.get_close_matches(name, [*BUILT_IN, JUDGE, CLIP], n=1)
        hint = f"did you mean {close[0]}?" if close else f"scorers: {', '.join([*BUILT_IN, JUDGE, CLIP])}"
        raise RewardError(f"{setting}: unknown scorer {name} ({hint}); your own is named as package.module:function")
    return _import_function(name, setting)


def _judge_scorer(name: str, setting: str, judge: JudgeSettings | None) -> JudgeScorer:
    if judge is None:
        raise RewardError(
            f"{setting} names the scorer {name}, but reward.judge is not set: name its model there, and its url "
            "where an endpoint judges"
        )
    rubric = name.partition("/")[2]
    return JudgeScorer(load_rubric(rubric) if rubric else None, judge.sees)


def _clip_scorer(setting: str, clip: ClipSettings | None) -> AlignmentScorer:
    if clip is None:
        raise RewardError(f"{setting} names the scorer clip, but reward.clip is not set: name its model there")
    return AlignmentScorer(clip.reads, clip.increments)


def _import_function(path: str, setting: str) -> Scorer:
    module_name, _, function_name = path.partition(":")
    try:
        module: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module can fail in any way; the cause is kept
        raise RewardError(
            f"{setting}: cannot import {module_name} of scorer {path}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        close = difflib.get_close_matches(function_name, [n for n in dir(module) if callable(getattr(module, n))], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RewardError(f"{setting}: {module_name} has no function {function_name!r}{hint}")
    try:
        inspect.signature(function).bind(None, "")
    except TypeError as error:
        raise RewardError(f"{setting}: {path} must take (sample, text): {error}") from None
    return function
