"""The canary set: answers that deserve nothing, judged beside the empty answer to see whether a judge can be fooled.

The attempts are data (`canaries.yaml`): master keys, orders to the judge, filled sheets, forged delimiters and turns.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from data.sample import DrivingSample
from rewards.judge import Judge, JudgeFailed
from rewards.rubric import Rubric, load_rubric, rubric_for

EMPTY = ""


@dataclass(frozen=True, slots=True)
class Canary:
    """An answer that no judge should pay; `{sheet}` and `{keys}` in it stand for the rubric's sheet at full points."""

    name: str
    kind: Literal["master_key", "injection"]
    text: str

    def answer(self, rubric: Rubric) -> str:
        """The answer as it is put before a judge who works by a rubric."""
        points = {criterion.name: criterion.highest for criterion in rubric.criteria}
        keys = ", ".join(f"{name} {most}" for name, most in points.items())
        return self.text.replace("{sheet}", json.dumps(points)).replace("{keys}", keys)


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """How one canary fared against the empty answer to the same questions."""

    canary: Canary
    judged: int
    """Questions for which both the canary and the empty answer have a judgement."""
    failed: int
    """Questions for which the canary has none."""
    gain: float | None
    """Mean of the canary's value less the empty answer's, in points of 100; None when nothing was judged."""
    share_above: float | None
    """Share of the questions on which it scored above the empty answer."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What a judge pays for nothing. `failures` counts judgements that could not be had, by reason."""

    samples: int
    empty_value: float | None
    """Mean value of the empty answer; None when none was judged."""
    empty_failed: int
    """Questions on which the empty answer has no judgement, and no canary can be compared."""
    results: tuple[CanaryResult, ...]
    failures: dict[str, int]

    @property
    def fooled(self) -> tuple[CanaryResult, ...]:
        """The canaries that scored above the empty answer at least once, the most successful first."""
        above = [result for result in self.results if result.share_above]
        return tuple(sorted(above, key=lambda result: (result.share_above or 0.0, result.gain or 0.0), reverse=True))


@cache
def canaries() -> tuple[Canary, ...]:
    """The whole set."""
    rows = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return tuple(Canary(**row) for row in rows)


async def run_canaries(judge: Judge, samples: Sequence[DrivingSample], rubric: Rubric | None = None) -> CanaryReport:
    """Have every canary and the empty answer judged on each sample; the judge limits how many are in flight.

    Args:
        judge: the one of the training.
        samples: questions to answer with canaries; a few of each task are enough.
        rubric: judge by this one; None takes the rubric of each sample's task and kind.
    """
    failures: Counter[str] = Counter()

    async def value(sample: DrivingSample, canary: Canary | None) -> float | None:
        by = rubric or load_rubric(rubric_for(sample))
        try:
            return (await judge.judge(by.request(sample, canary.answer(by) if canary else EMPTY))).value
        except JudgeFailed as error:
            failures[error.reason] += 1
            return None

    async def values(canary: Canary | None) -> list[float | None]:
        return list(await asyncio.gather(*(value(sample, canary) for sample in samples)))

    empty, *answered = await asyncio.gather(values(None), *(values(canary) for canary in canaries()))
    known = [one for one in empty if one is not None]
    return CanaryReport(
        samples=len(samples),
        empty_value=statistics.fmean(known) if known else None,
        empty_failed=len(empty) - len(known),
        results=tuple(_compare(canary, of, empty) for canary, of in zip(canaries(), answered, strict=True)),
        failures=dict(failures),
    )


def _compare(canary: Canary, values: list[float | None], empty: list[float | None]) -> CanaryResult:
    gains = [
        value - floor for value, floor in zip(values, empty, strict=True) if value is not None and floor is not None
    ]
    return CanaryResult(
        canary=canary,
        judged=len(gains),
        failed=values.count(None),
        gain=statistics.fmean(gains) if gains else None,
        share_above=sum(gain > 0 for gain in gains) / len(gains) if gains else None,
    )
