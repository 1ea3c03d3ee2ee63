"""Having many answers judged: every request goes out at once, and the judge limits how many are in flight. No ray."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from rewards.judge import Judge, JudgeFailed, Judgement, JudgeRequest

NOT_JUDGED = "not_judged"

Judgements = Mapping[str, Judgement | JudgeFailed]
"""What the judge said, by the key under which a suite asked; a judgement that could not be had is its failure."""


async def judge_all(judge: Judge, requests: Mapping[str, JudgeRequest]) -> dict[str, Judgement | JudgeFailed]:
    """What the judge says of every request, by its key; a judgement that could not be had is its failure."""

    async def one(request: JudgeRequest) -> Judgement | JudgeFailed:
        try:
            return await judge.judge(request)
        except JudgeFailed as error:
            return error

    return dict(zip(requests, await asyncio.gather(*map(one, requests.values())), strict=True))


def judged_value(judgements: Judgements | None, key: str) -> tuple[float | None, str | None]:
    """The value (0-100) that the judge gave under a key, and why there is none; neither without a judge."""
    if judgements is None:
        return None, None
    found = judgements.get(key)
    if isinstance(found, Judgement):
        return found.value, None
    return None, found.reason if found is not None else NOT_JUDGED


def failures(judgements: Judgements | None) -> dict[str, int]:
    """How many judgements could not be had, by reason."""
    return dict(Counter(f"judge_{found.reason}" for found in (judgements or {}).values()
                        if isinstance(found, JudgeFailed)))  # fmt: skip
