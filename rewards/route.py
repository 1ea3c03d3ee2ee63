"""The router: from a response to its `Score`, by task and kind. Gate first, then the first route that matches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.gate import gate_reason
from rewards.score import Score
from rewards.scorers import BuiltIn, RewardError, Scorer, find_scorer
from rewards.settings import RewardSettings, RouteSettings


@dataclass(frozen=True, slots=True)
class _Route:
    settings: RouteSettings
    place: str
    scorers: tuple[tuple[str, float, Scorer], ...]

    def matches(self, sample: DrivingSample) -> bool:
        return self.settings.task in ("any", sample.task) and self.settings.kind in ("any", sample.kind)


class Router:
    """Scores responses as the recipe's `reward` part says. Stateless after construction; safe to share by threads."""

    def __init__(self, settings: RewardSettings) -> None:
        """Find every scorer.

        Raises:
            RewardError: a scorer is unknown or cannot be imported; the message names the route.
        """
        self._gate = settings.gate
        self._routes = tuple(_route(route, number) for number, route in enumerate(settings.routes))

    def score(self, sample: DrivingSample, text: str, finish_reason: str) -> Score:
        """What a response is worth.

        A gated response is worth 0, with the parts `gate` (0) and `gate_<reason>` (1); a response without an answer is
        worth 0 under the part `empty`. Otherwise the value is the weighted mean of the route's scorers, each of which
        is a part under its name. A scorer that raises, or gives no number in [0, 100], leaves a part
        `failed_<name>` (1) and, if it has a weight, fails the score: the rollout is masked, never a silent zero.

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
        return _weighted(route, sample, text)

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
                if isinstance(scorer, BuiltIn) and not scorer.applies(sample):
                    raise RewardError(
                        f"{route.place} sends sample {sample.id} ({sample.task} / {sample.kind}) to {name}, which "
                        f"needs {scorer.needs}; give that kind a route of its own before this one"
                    )
        if lost:
            counted = ", ".join(f"{what} ({count} samples)" for what, count in sorted(lost.items()))
            raise RewardError(f"no route of reward.routes matches {counted}; add a route for it, or one with kind any")

    def _find(self, sample: DrivingSample) -> _Route | None:
        return next((route for route in self._routes if route.matches(sample)), None)


def _route(settings: RouteSettings, number: int) -> _Route:
    place = f"reward.routes[{number}]"
    scorers = tuple((name, weight, find_scorer(name, place)) for name, weight in settings.scorers.items())
    return _Route(settings, place, scorers)


def _weighted(route: _Route, sample: DrivingSample, text: str) -> Score:
    parts: dict[str, float] = {}
    failures: list[str] = []
    total = weights = 0.0
    for name, weight, scorer in route.scorers:
        value, failure = _call(scorer, sample, text)
        if failure is None:
            parts[name] = value
            total += weight * value
            weights += weight
            continue
        parts[f"failed_{name}"] = 1.0
        if weight > 0:
            failures.append(f"{name}: {failure}")
    if failures:
        return Score(0.0, parts, failure="; ".join(failures))
    return Score(min(100.0, total / weights), parts)  # the mean of 100s can exceed 100 by rounding


def _call(scorer: Scorer, sample: DrivingSample, text: str) -> tuple[float, str | None]:
    """The scorer's value, or 0 and why there is none."""
    try:
        returned = scorer(sample, text)
        value = math.nan if isinstance(returned, bool) else float(returned)
    except Exception as error:  # a user's function can fail in any way; the reason travels in the score
        return 0.0, f"{type(error).__name__}: {error}"
    if not 0.0 <= value <= 100.0:  # also refuses NaN
        return 0.0, f"returned {returned!r}, not a number from 0 to 100"
    return value, None
