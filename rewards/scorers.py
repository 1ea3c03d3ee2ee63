"""The scorers a recipe can name: rules `(sample, response) -> 0-100`, your own by import path, the judge, and CLIP."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from data.coordinates import coordinate_pairs, without_coordinates
from data.reading.rules import exact_match, extract_yes_no
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
from rewards.own_reward import OwnReward, own_reward
from rewards.rubric import Rubric, load_rubric, rubric_for
from rewards.score import Score
from rewards.settings import ClipSettings, JudgeSettings, RewardSettings
from rewards.structure import structure
from rewards.text import bleu, rouge_l
from rewards.trajectory import SCORERS as TRAJECTORY
from rewards.trajectory import applies, bins_of, scored

Scorer = Callable[[DrivingSample, str], float | Score]
"""A number from 0 to 100, or a whole `Score` whose parts are worth logging."""
Group = Callable[[DrivingSample, Sequence[str]], Sequence[float | Score]]
"""From the whole responses of a complete group to what each is worth beside the others."""
JUDGE, CLIP = "judge", "clip"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in scorer: it needs something of the ground truth, and reads the answer part of a response."""

    score: Scorer
    applies: Callable[[DrivingSample], bool]
    needs: str
    whole: bool = False
    """It reads the whole response, for its thinking or its form count."""
    group: Group | None = None
    """For a scorer that compares the responses of a group."""

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
        rubric = self._of(sample)
        shown = text if self.sees == "response" else answer_part(text)
        judgement = await judge.judge(rubric.request(sample, shown))
        return Score(judgement.value, {name: float(points) for name, points in judgement.points.items()})

    def label(self, sample: DrivingSample) -> str:
        """The rubric that a sample is judged by, with the hash of its text."""
        return self._of(sample).label

    def _of(self, sample: DrivingSample) -> Rubric:
        return self.rubric or load_rubric(rubric_for(sample))


AnyScorer = BuiltIn | JudgeScorer | AlignmentScorer | OwnReward


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

    Your own, `package.module:name`, is one of:

    - a function `(sample, text)` that returns a number from 0 to 100, or a `Score`;
    - the same as `async def`, with further parameters named `judge` or `clip`: it is given the recipe's;
    - a class, made without arguments, whose `score` is one of these two, and whose `group(sample, texts)`, if it has
      one, gives each response of a complete group its worth beside the others, in place of what `score` gave.

    `text` is the whole response (`rewards.answer.answer_part` gives the answer in it). The module is found as by
    `import`. Where the function runs is said in `docs/extending.md`.

    Raises:
        RewardError: the name is unknown, the rubric, module or function cannot be had, the function takes other
            arguments, or the recipe has no judge or no CLIP.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in TRAJECTORY:
        return _trajectory_scorer(name, settings.trajectory_bins)
    if name.partition("/")[0] == JUDGE:
        return _judge_scorer(name, setting, settings.judge)
    if name == CLIP:
        return _clip_scorer(setting, settings.clip)
    if ":" not in name:
        known = [*BUILT_IN, *TRAJECTORY, JUDGE, CLIP]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"scorers: {', '.join(known)}"
        raise RewardError(f"{setting}: unknown scorer {name} ({hint}); your own is named as package.module:function")
    return own_reward(name, setting, settings)


def _trajectory_scorer(name: str, file: str | None) -> BuiltIn:
    """The bins are read when the first sample is looked at: a dry run can do without the file."""
    return BuiltIn(
        lambda sample, answer: scored(name, sample, answer, bins_of(file)),
        lambda sample: applies(name, sample, bins_of(file)),
        TRAJECTORY[name][1],
    )


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
