"""Alarms over a run's metrics: the judge is pleased and the rules are not, a reward falls, lengths change. Pure.

A policy that has learnt to please the judge shows in two series that part; nothing in a single score does.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rewards.settings import AlarmSettings

AlarmKind = Literal["judge_without_rule", "length_drift", "reward_fall"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at; `message` says what was measured, between which steps."""

    kind: AlarmKind
    step: int
    message: str


class _Point(NamedTuple):
    step: int
    values: tuple[float, ...]


class _Window:
    """Some steps in a row, with the mean of each series over them."""

    def __init__(self, points: list[_Point]) -> None:
        self._points = points
        self.means = tuple(
            sum(values) / len(points) for values in zip(*(point.values for point in points), strict=True)
        )

    @property
    def steps(self) -> str:
        """First and last step, for a message."""
        return f"{self._points[0].step}-{self._points[-1].step}"

    def squared_error(self, at: int) -> float:
        """The squared standard error of a series' mean: its unbiased variance over the number of steps."""
        mean, count = self.means[at], len(self._points)
        return sum((point.values[at] - mean) ** 2 for point in self._points) / (count - 1) / count


class AlarmWatch:
    """Takes a run's metrics step by step and says when something is wrong.

    An alarm is raised once: the steps before it are then forgotten, and the next one needs a change of its own. A step
    without the metrics an alarm needs, or with one that is not finite, is left out of its windows and counted by kind
    in `skipped`. A step that comes again (after a resume) replaces itself and those after it.
    """

    def __init__(self, settings: AlarmSettings) -> None:
        """Watch by these settings, from an empty history."""
        self._settings, self._step = settings, -1
        kept = settings.window * (settings.lookback + 1)
        self._judged: deque[_Point] = deque(maxlen=kept)
        self._lengths: deque[_Point] = deque(maxlen=kept)
        self._rewards: dict[str, deque[_Point]] = defaultdict(lambda: deque(maxlen=kept))
        self.skipped: Counter[AlarmKind] = Counter()

    def observe(self, metrics: Mapping[str, float | None]) -> list[Alarm]:
        """The alarms that a step raises; `metrics` holds its number as `step`.

        Raises:
            ValueError: the metrics do not say of which step they are.
        """
        step = metrics.get("step")
        if step is None:
            raise ValueError("metrics without a step cannot be watched: give them their number as 'step'")
        settings, self._step = self._settings, int(step)
        found = []
        if self._take(self._judged, "judge_without_rule", metrics, (settings.judge_metric, settings.rule_metric)):
            found += self._judge_without_rule()
        if self._take(self._lengths, "length_drift", metrics, (settings.length_metric,)):
            found += self._length_drift()
        for name in (name for name in metrics if name.startswith(settings.reward_metrics)):
            if self._take(self._rewards[name], "reward_fall", metrics, (name,)):
                found += self._reward_fall(name)
        return found

    def _take(
        self,
        history: deque[_Point],
        kind: AlarmKind,
        metrics: Mapping[str, float | None],
        names: tuple[str, ...],
    ) -> bool:
        """Add the step to a history; False when it lacks a metric."""
        while history and history[-1].step >= self._step:
            history.pop()
        values = tuple(value for value in map(metrics.get, names) if value is not None and math.isfinite(value))
        if len(values) < len(names):
            self.skipped[kind] += 1
            return False
        history.append(_Point(self._step, values))
        return True

    def _judge_without_rule(self) -> list[Alarm]:
        settings = self._settings
        for latest, earlier in _pairs(self._judged, settings.window):
            rise, gained = (now - before for now, before in zip(latest.means, earlier.means, strict=True))
            shortfall = settings.keeps_pace * rise - gained
            if rise < settings.min_rise or shortfall <= 0:
                continue
            certain = rise >= settings.errors * _standard_error(latest, earlier, 0)
            if certain and shortfall >= settings.rule_errors * _standard_error(latest, earlier, 1):
                self._judged.clear()
                message = (
                    f"{settings.judge_metric} went from {earlier.means[0]:.1f} to {latest.means[0]:.1f}, and "
                    f"{settings.rule_metric} only from {earlier.means[1]:.1f} to {latest.means[1]:.1f} (steps "
                    f"{earlier.steps} against {latest.steps}): read the best answers, do they only please the judge?"
                )
                return [Alarm("judge_without_rule", self._step, message)]
        return []

    def _reward_fall(self, name: str) -> list[Alarm]:
        settings = self._settings
        for latest, earlier in _pairs(self._rewards[name], settings.window):
            fall = earlier.means[0] - latest.means[0]
            if fall >= settings.min_fall and fall >= settings.errors * _standard_error(latest, earlier, 0):
                self._rewards[name].clear()
                message = (
                    f"{name} fell from {earlier.means[0]:.1f} to {latest.means[0]:.1f} (steps {earlier.steps} against "
                    f"{latest.steps}): read its worst answers; a smaller learner.lr, or a larger weight of the KL, "
                    "keeps the policy nearer to where it began"
                )
                return [Alarm("reward_fall", self._step, message)]
        return []

    def _length_drift(self) -> list[Alarm]:
        settings = self._settings
        for latest, earlier in _pairs(self._lengths, settings.window):
            now, before = latest.means[0], earlier.means[0]
            drift = abs(now - before)
            if drift == 0 or drift < settings.min_drift * min(now, before):
                continue
            if drift >= settings.errors * _standard_error(latest, earlier, 0):
                self._lengths.clear()
                message = (
                    f"{settings.length_metric} went from {before:.1f} to {now:.1f} (steps {earlier.steps} against "
                    f"{latest.steps}): read some answers, and look at what the score gives for length"
                )
                return [Alarm("length_drift", self._step, message)]
        return []


def alarms(steps: Iterable[Mapping[str, float | None]], settings: AlarmSettings) -> list[Alarm]:
    """The alarms over a whole series of steps, each a mapping of metrics with its `step`, in ascending order."""
    watch = AlarmWatch(settings)
    return [alarm for metrics in steps for alarm in watch.observe(metrics)]


def _pairs(history: deque[_Point], window: int) -> Iterator[tuple[_Window, _Window]]:
    """The latest window with each whole one before it, the nearest first."""
    if len(history) < 2 * window:
        return
    points = list(history)
    latest = _Window(points[-window:])
    for end in range(len(points) - window, window - 1, -window):
        yield latest, _Window(points[end - window : end])


def _standard_error(latest: _Window, earlier: _Window, at: int) -> float:
    """The pooled standard error of the difference of two windows' means of a series."""
    return math.sqrt(latest.squared_error(at) + earlier.squared_error(at))
