"""The router: from a response to its `Score`, by task and kind. Gate first, then the first route that matches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.clip import AlignmentScorer, FrameTextSimilarity
from rewards.errors import RewardError
from rewards.gate import gate_reason
from rewards.grading import FAILURES, GRADER, GraderScorer
from rewards.judge import Judge
from rewards.own_loop import OwnLoop
from rewards.own_process import Call
from rewards.own_processes import OwnProcesses
from rewards.own_reward import OwnReward
from rewards.returned import as_score, failed
from rewards.score import Increment, Score
from rewards.scorers import AnyScorer, BuiltIn, Group, JudgeScorer, find_scorer
from rewards.settings import RewardSettings, RouteSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Route:
    settings: RouteSettings
    place: str
    scorers: tuple[tuple[str, float, AnyScorer | GraderScorer], ...]

    def matches(self, sample: DrivingSample) -> bool:
        return self.settings.task in ("any", sample.task) and self.settings.kind in ("any", sample.kind)


class Router:
    """Scores responses as the recipe's `reward` part says; safe to share by tasks.

    A user's functions run apart from ours, started when the first is called: plain ones in processes, coroutines in a
    thread with an event loop of its own. `close` ends both; so does the end of this object, or of Python.
    """

    def __init__(
        self, settings: RewardSettings, judge: Judge | None = None, clip: FrameTextSimilarity | None = None
    ) -> None:
        """Find every scorer. `judge` and `clip` are needed to score by them, and not to check the routes.

        Raises:
            RewardError: a scorer is unknown or cannot be imported; the message names the route.
        """
        self._gate, self._judge, self._clip = settings.gate, judge, clip
        self._processes = OwnProcesses(settings.processes, settings.timeout_s)
        self._loop = OwnLoop(settings.timeout_s)
        self._routes = tuple(_route(settings, route, number) for number, route in enumerate(settings.routes))

    async def score(self, sample: DrivingSample, text: str, finish_reason: str) -> Score:
        """What a response is worth.

        A gated response is worth 0, with the parts `gate` (0) and `gate_<reason>` (1); a response without an answer is
        worth 0 under the part `empty`. Otherwise the value is the weighted mean of the route's scorers, each of which
        is a part under its name, and what it says of itself parts below (`judge/correctness`). A scorer that raises,
        or gives no number in [0, 100], leaves a part `failed_<name>` (1) and, if it has a weight, fails the score: the
        rollout is masked, never a silent zero.

        Raises:
            RewardError: no route matches; `check_routes` finds this before a run.
        """
        reason = gate_reason(text, finish_reason, self._gate)
        if reason is not None:
            return Score(0.0, {"gate": 0.0, f"gate_{reason}": 1.0})
        if not answer_part(text):
            return Score(0.0, {"empty": 0.0})
        route = self._find(sample)
        if route is None:
            raise RewardError(f"no route of reward.routes matches {sample.task} / {sample.kind} (sample {sample.id})")
        scores = await asyncio.gather(*(self._ask(name, scorer, sample, text) for name, _, scorer in route.scorers))
        return _weighted(route, scores)

    def complete(self, sample: DrivingSample, texts: Sequence[str], scores: Sequence[Score]) -> list[Score]:
        """The scores of a complete group, where a scorer compares its responses (AlphaDrive's diversity).

        The parts of other scorers keep their values. Responses that the gate settled, or whose scoring failed, keep
        their scores, but the others are still compared with them. Each value is then the weighted mean of its parts. A
        comparison of the user's is waited for, up to `reward.timeout_s` once it begins.
        """
        route = self._find(sample)
        complete = list(scores)
        for name, _, scorer in route.scorers if route is not None else ():
            match scorer:
                case BuiltIn(group=group) if group is not None:
                    compared = _compared(name, group, sample, texts)
                case OwnReward(compares=True):
                    compared = self._processes.call(Call(name, "group", (sample, list(texts)))).result()
                case _:
                    continue
            for index, among in enumerate(compared):
                if name in complete[index].parts and complete[index].failure is None:
                    assert route is not None
                    complete[index] = _with_part(route, complete[index], name, among)
        return complete

    def check_routes(self, samples: Iterable[DrivingSample]) -> None:
        """Check before a run that every sample has a route whose scorers can score it.

        Raises:
            RewardError: names the tasks and kinds without a route, or the scorer that lacks what it needs.
        """
        lost: Counter[str] = Counter()
        for sample in samples:
            route = self._find(sample)
            if route is None:
                lost[f"{sample.task} / {sample.kind}"] += 1
                continue
            for name, _, scorer in route.scorers:
                if isinstance(scorer, GraderScorer) and (fault := scorer.fault(sample)) is not None:
                    raise RewardError(f"sample {sample.id} ({sample.task} / {sample.kind}) cannot be graded: {fault}")
                if isinstance(scorer, BuiltIn) and not scorer.applies(sample):
                    raise RewardError(
                        f"{route.place} sends sample {sample.id} ({sample.task} / {sample.kind}) to {name}, which "
                        f"needs {scorer.needs}; give that kind a route of its own before this one"
                    )
        if lost:
            counted = ", ".join(f"{what} ({count} samples)" for what, count in sorted(lost.items()))
            raise RewardError(f"no route of reward.routes matches {counted}; add a route for it, or one with kind any")

    def rubrics(self, sample: DrivingSample) -> dict[str, str]:
        """The rubric, with the hash of its text, of each scorer that asks the judge about this sample."""
        route = self._find(sample)
        found: dict[str, str] = {}
        for name, _, scorer in route.scorers if route is not None else ():
            if isinstance(scorer, JudgeScorer):
                found[name] = scorer.label(sample)
            elif isinstance(scorer, GraderScorer):
                found |= scorer.rubrics(sample)
        return found

    def _find(self, sample: DrivingSample) -> _Route | None:
        return next((route for route in self._routes if route.matches(sample)), None)

    async def _ask(self, name: str, scorer: AnyScorer | GraderScorer, sample: DrivingSample, text: str) -> Score:
        """What one scorer says; a failure carries its name first, as the counts are kept by it."""
        try:
            if isinstance(scorer, JudgeScorer):
                return await scorer.score(_present(self._judge, name), sample, text)
            if isinstance(scorer, AlignmentScorer):
                return await scorer.score(_present(self._clip, name), sample, text)
            if isinstance(scorer, GraderScorer):
                return await scorer.score(self._judge, self._clip, sample, text)
            if isinstance(scorer, OwnReward):
                return await self._own(name, scorer, sample, text)
        except FAILURES as error:
            return Score(0.0, failure=f"{name}_{error}")
        return await asyncio.to_thread(_call, name, scorer, sample, text)  # a rule may take its time

    async def _own(self, name: str, reward: OwnReward, sample: DrivingSample, text: str) -> Score:
        if not reward.waits:
            (score,) = await asyncio.wrap_future(self._processes.call(Call(name, "score", (sample, text))))
            return score
        offered = {"judge": self._judge, "clip": self._clip}
        services = {which: _present(offered[which], name) for which in reward.services}
        return await self._loop.score(name, reward.score, sample, text, services=services)

    def close(self) -> None:
        """End what runs of a user's functions."""
        self._processes.close()
        self._loop.close()


def _present(service: T | None, name: str) -> T:
    if service is None:
        raise RewardError(f"the scorer {name} needs a model, and this router was given none")
    return service


def _route(settings: RewardSettings, route: RouteSettings, number: int) -> _Route:
    place = f"reward.routes[{number}]"
    scorers = tuple((_shown(name), weight, _scorer(name, place, settings)) for name, weight in route.scorers.items())
    return _Route(route, place, scorers)


def _shown(name: str) -> str:
    """What a scorer is called in the parts of a score: a grader by its file's name, without the folder."""
    return Path(name).stem if name.partition("/")[0] == GRADER else name


def _scorer(name: str, place: str, settings: RewardSettings) -> AnyScorer | GraderScorer:
    if name.partition("/")[0] == GRADER:
        return GraderScorer.load(name, place, settings)
    return find_scorer(name, place, settings)


def _weighted(route: _Route, scores: list[Score]) -> Score:
    parts: dict[str, float] = {}
    failures: list[str] = []
    increments: list[Increment] = []
    total = weights = 0.0
    for (name, weight, _), score in zip(route.scorers, scores, strict=True):
        parts |= {f"{name}/{part}": value for part, value in score.parts.items()}
        increments += [Increment(weight * one.gain, one.end) for one in score.increments or ()]
        if score.failure is None:
            parts[name] = score.value
            total += weight * score.value
            weights += weight
            continue
        parts[f"failed_{name}"] = 1.0
        if weight > 0:
            failures.append(score.failure)
    if failures:
        return Score(0.0, parts, failure="; ".join(failures))
    shares = tuple(Increment(one.gain / weights, one.end) for one in increments)
    return Score(min(100.0, total / weights), parts, shares or None)  # the mean of 100s can exceed 100 by rounding


def _with_part(route: _Route, score: Score, name: str, part: Score) -> Score:
    parts = score.parts | {name: part.value} | {f"{name}/{detail}": value for detail, value in part.parts.items()}
    weights = {other: weight for other, weight, _ in route.scorers if other in parts}
    if part.failure is not None:
        del parts[name]
        failure = part.failure if weights[name] > 0 else None
        return replace(
            score, value=0.0 if failure else score.value, parts=parts | {f"failed_{name}": 1.0}, failure=failure
        )
    value = sum(weight * parts[other] for other, weight in weights.items()) / sum(weights.values())
    return replace(score, value=min(100.0, value), parts=parts)


def _call(name: str, rule: BuiltIn, sample: DrivingSample, text: str) -> Score:
    """The rule's score of a response; a failure names it."""
    try:
        return as_score(name, rule(sample, text))
    except Exception as error:  # a sample that the rule is not made for; the reason travels in the score
        return failed(name, error)


def _compared(name: str, group: Group, sample: DrivingSample, texts: Sequence[str]) -> list[Score]:
    """One score for each response of a group; where the comparison fails, it fails for each of them."""
    try:
        return [as_score(name, one) for one in group(sample, texts)]
    except Exception as error:  # as above
        return [failed(name, error)] * len(texts)
