"""`GraderScorer`: applies a grader to an answer: in a run, for a client that asks once, and for another trainer.

A run's recipe names it as the scorer `grader/<file>`, the file being the grader's JSON.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.clip import AlignmentScorer, ClipFailed, FrameTextSimilarity
from rewards.errors import RewardError
from rewards.graders import (
    FIELDS,
    OUTPUT,
    TEMPLATE,
    MultiGrader,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    read_grader,
)
from rewards.judge import Criterion, Judge, JudgeFailed, JudgeRequest
from rewards.score import Score
from rewards.scorers import BuiltIn, JudgeScorer, find_scorer
from rewards.settings import RewardSettings
from rewards.text import bleu, rouge_l
from rewards.untrusted import clean

GRADER = "grader"
"""First part of such a scorer's name."""
STEPS = 100
"""Whole points that a judge has where the range of its score is not one of whole numbers."""
SHEET = "Reply with a JSON object that holds one whole number, score, from {lowest} to {highest}{meaning}."


class GraderFailed(RuntimeError):
    """A grader gave no number; the rollout is masked, never a zero."""

    def __init__(self, detail: str) -> None:
        """Failures are counted by what stands before the colon."""
        super().__init__(f"ungraded: {detail}")
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Graded:
    """What a grader says of an answer."""

    reward: float
    """On the grader's own scale."""
    parts: dict[str, float] = field(default_factory=dict)
    """Of what it is made up: other graders' rewards, a rubric's points, a rule's parts."""


@dataclass(frozen=True)
class GraderScorer:
    """A grader with what it needs of a recipe."""

    grader: Any
    settings: RewardSettings

    @classmethod
    def load(cls, name: str, setting: str, settings: RewardSettings) -> GraderScorer:
        """The grader that a scorer's name stands for.

        Raises:
            RewardError: the file cannot be read or is no grader, or the recipe lacks the judge or the CLIP it needs.
        """
        path = Path(name.partition("/")[2])
        try:
            grader = read_grader(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise RewardError(f"{setting}: {path} is no grader: {error}") from None
        found = cls(grader, settings)
        found.check()
        return found

    def check(self) -> None:
        """Refuse a grader that asks what is not there.

        Raises:
            RewardError: says what is missing.
        """
        if "judge" in self.grader.asks and self.settings.judge is None:
            raise RewardError(f"the grader {self.grader.name} asks a judge, and there is none (reward.judge)")
        if "clip" in self.grader.asks and self.settings.clip is None:
            raise RewardError(f"the grader {self.grader.name} asks a CLIP, and there is none (reward.clip)")
        for one in self._all():
            if isinstance(one, ScoreModel) and self.settings.judge is not None:
                known = self.settings.judge.model
                if one.model not in (known, "judge"):
                    raise RewardError(f"model: the judge here is {known!r} (or just judge), not {one.model[:100]!r}")

    def fault(self, sample: DrivingSample) -> str | None:
        """Why this sample cannot be graded so; None where it can."""
        for one in self._all():
            scorer = self._rules.get(one.name)
            if isinstance(scorer, BuiltIn) and not scorer.applies(sample):
                return f"the grader {one.name} needs {scorer.needs}"
        return None

    def rubrics(self, sample: DrivingSample) -> dict[str, str]:
        """The rubric, with the hash of its text, of each grader that asks the judge."""
        found = {}
        for one in self._all():
            if isinstance(one, ScoreModel):
                found[one.name] = _label(one)
            elif isinstance(scorer := self._rules.get(one.name), JudgeScorer):
                found[one.name] = scorer.label(sample)
        return found

    async def score(
        self, judge: Judge | None, clip: FrameTextSimilarity | None, sample: DrivingSample, text: str
    ) -> Score:
        """A response's score of 0 to 100: 100 times the reward, of a `score_model` its place in its range.

        Raises:
            GraderFailed, JudgeFailed, ClipFailed: there is none.
        """
        graded = await self.graded(judge, clip, fields_of(sample), answer_part(text), sample, text)
        share = graded.reward
        if isinstance(self.grader, ScoreModel):
            lowest, highest = self.grader.range
            share = (graded.reward - lowest) / (highest - lowest)
        return Score(100.0 * min(1.0, max(0.0, share)), graded.parts)

    async def graded(
        self,
        judge: Judge | None,
        clip: FrameTextSimilarity | None,
        item: Mapping[str, str],
        output: str,
        sample: DrivingSample | None = None,
        response: str | None = None,
    ) -> Graded:
        """What the grader says.

        Args:
            judge, clip: what it asks, where it asks anything.
            item: fills `{{ item.<name> }}`.
            output: the answer; fills `{{ sample.output_text }}`.
            sample: the driving question; None where there is none.
            response: the whole response, where it holds more than the answer.

        Raises:
            GraderFailed, JudgeFailed, ClipFailed: it gives no number; says why.
        """
        case = _Case(judge, clip, item, output, sample, output if response is None else response)
        if not isinstance(self.grader, MultiGrader):
            return await self._one(self.grader, case)
        names = list(self.grader.graders)
        found = await asyncio.gather(*(self._one(self.grader.graders[name], case) for name in names))
        rewards = {name: one.reward for name, one in zip(names, found, strict=True)}
        try:
            reward = self.grader.formula.value(rewards)
        except RewardError as error:
            raise GraderFailed(str(error)) from None
        return Graded(reward, rewards)

    async def _one(self, grader: Any, case: _Case) -> Graded:
        if isinstance(grader, StringCheck):
            return Graded(_checked(grader, case.filled(grader.input), case.filled(grader.reference)))
        if isinstance(grader, TextSimilarity):
            compare = _SIMILARITY[grader.evaluation_metric]
            return Graded(await asyncio.to_thread(compare, case.filled(grader.input), case.filled(grader.reference)))
        if isinstance(grader, ScoreModel):
            return await _judged(grader, case)
        return await self._by_rule(grader, case)

    async def _by_rule(self, grader: Any, case: _Case) -> Graded:
        """One of the recipe's own scorers."""
        scorer, sample = self._rules[grader.name], case.sample
        if sample is None:
            raise GraderFailed(f"the grader {grader.name} needs a driving question: send item with question and answer")
        if isinstance(scorer, JudgeScorer):
            if case.judge is None:
                raise GraderFailed(f"the grader {grader.name} asks a judge, and there is none")
            score = await scorer.score(case.judge, sample, case.response)
            return Graded(score.value / 100.0, score.parts)
        if isinstance(scorer, AlignmentScorer):
            if case.clip is None:
                raise GraderFailed(f"the grader {grader.name} asks a CLIP, and there is none")
            score = await scorer.score(case.clip, sample, case.response)
        elif not scorer.applies(sample):
            raise GraderFailed(f"the grader {grader.name} needs {scorer.needs}")
        else:
            found = await asyncio.to_thread(scorer, sample, case.response)
            score = found if isinstance(found, Score) else Score(found)
        return Graded(score.value / 100.0, score.parts)

    @cached_property
    def _rules(self) -> dict[str, Any]:
        """The recipe's scorer of each grader that has one."""
        named = ((one.name, getattr(one, "scorer", None)) for one in self._all())
        return {name: find_scorer(scorer, GRADER, self.settings) for name, scorer in named if scorer}

    def _all(self) -> list[Any]:
        return list(self.grader.graders.values()) if isinstance(self.grader, MultiGrader) else [self.grader]


@dataclass(frozen=True)
class _Case:
    """An answer with all that graders look at."""

    judge: Judge | None
    clip: FrameTextSimilarity | None
    item: Mapping[str, str]
    output: str
    sample: DrivingSample | None
    response: str

    def filled(self, text: str, *, cleaned: bool = False) -> str:
        """A text with its templates filled; `cleaned`: for a judge, whom what is filled in must not command."""

        def value(name: str) -> str:
            found = self.output if name == OUTPUT else self.item.get(name.removeprefix("item."))
            if found is None:
                raise GraderFailed(f"there is no {name} to fill in: send it in item")
            return clean(found) if cleaned else found

        return TEMPLATE.sub(lambda match: value(match[1]), text)


def fields_of(sample: DrivingSample) -> dict[str, str]:
    """What a sample gives to templates (`rewards.graders.FIELDS`)."""
    answer = sample.choices.get(sample.answer, sample.answer)
    values = (sample.id, sample.task, sample.kind, sample.question, sample.answer, answer, sample.reasoning)
    return dict(zip(FIELDS, values, strict=True))


def _checked(grader: StringCheck, text: str, reference: str) -> float:
    match grader.operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
    return float(reference.casefold() in text.casefold())


_SIMILARITY = {
    "bleu": lambda text, truth: bleu(text, truth) / 100.0,
    "rouge_l": lambda text, truth: rouge_l(text, truth) / 100.0,
    "fuzzy_match": lambda text, truth: difflib.SequenceMatcher(None, text[:4_000], truth[:4_000]).ratio(),
}


async def _judged(grader: ScoreModel, case: _Case) -> Graded:
    if case.judge is None:
        raise GraderFailed(f"the grader {grader.name} asks a judge, and there is none")
    lowest, highest = grader.range
    whole = lowest == int(lowest) >= 0 and highest == int(highest) and highest - lowest > 1
    criterion = Criterion("score", int(highest), int(lowest)) if whole else Criterion("score", STEPS)
    meaning = "" if whole else f", where {criterion.lowest} means {lowest:g} and {criterion.highest} means {highest:g}"
    sheet = SHEET.format(lowest=criterion.lowest, highest=criterion.highest, meaning=meaning)
    above = [one.text for one in grader.input if one.role in ("system", "developer")]
    shown = [case.filled(one.text, cleaned=True) for one in grader.input if one.role in ("user", "assistant")]
    system = "\n\n".join([*(case.filled(text, cleaned=True) for text in above), sheet])
    request = JudgeRequest(_label(grader), system, "\n\n".join([*shown, sheet]), (criterion,))
    points = (await case.judge.judge(request)).points["score"]
    reward = float(points) if whole else lowest + (highest - lowest) * points / STEPS
    return Graded(reward, {})


def _label(grader: ScoreModel) -> str:
    """What the judge's answers to a grader are kept under."""
    return f"{grader.name}@{hashlib.sha256(grader.model_dump_json().encode()).hexdigest()[:12]}"


FAILURES = (GraderFailed, JudgeFailed, ClipFailed)
"""How a grader fails."""
