"""What is asked of a judge and how its reply is read. Pure: what sends it to a model lies in `actors`.

A judge fills a sheet of criteria, each with bounded whole points; the points are added here, never by the judge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

from rewards.untrusted import block

FailureReason = Literal[
    "timeout", "connection", "rate_limited", "server_error", "refused", "invalid_reply", "actor_lost"
]
FAILURE_REASONS: tuple[FailureReason, ...] = get_args(FailureReason)


class JudgeFailed(RuntimeError):
    """No judgement could be had, for a reason that is counted under its name; the rollout is masked, never a zero."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        """Keep the reason for the counts and the detail for people."""
        super().__init__(f"{reason}: {detail}")
        self.reason: FailureReason = reason


class AttemptFailed(JudgeFailed):
    """One attempt gave no reply; another may. `retry_after_s` is how long the judge asked to be left alone."""

    def __init__(self, reason: FailureReason, detail: str, retry_after_s: float = 0.0) -> None:
        """As `JudgeFailed`, with the wait that the judge asked for in seconds."""
        super().__init__(reason, detail)
        self.retry_after_s = retry_after_s


class InvalidReply(ValueError):
    """A reply that is not a filled sheet; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a sheet: a name, whole points from `lowest` to `highest`, and whether they count in the value."""

    name: str
    highest: int
    lowest: int = 0
    counts: bool = True


@dataclass(frozen=True)
class JudgeRequest:
    """One answer to be judged: everything that decides the reply, the judge and its sampling settings apart.

    `system` is the rubric alone, the same for every answer judged by it, so that a prefix cache serves it; `user`
    holds the case. `rubric` names the rubric with the hash of its text.
    """

    rubric: str
    system: str
    user: str
    criteria: tuple[Criterion, ...]

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON schema a reply must satisfy: one bounded integer for each criterion."""
        points = {c.name: {"type": "integer", "minimum": c.lowest, "maximum": c.highest} for c in self.criteria}
        return {"type": "object", "properties": points, "required": list(points), "additionalProperties": False}

    def messages(self, complaint: str | None = None) -> list[dict[str, str]]:
        """The chat a judge is shown.

        Args:
            complaint: what was wrong with its reply before this one. It is shown as data: it may quote an answer that
                means the judge.
        """
        again = ""
        if complaint is not None:
            fault = block("fault", complaint)
            again = f"\nYour reply before this one was no valid sheet:\n{fault}\nReply with the sheet alone."
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user + again}]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's verdict: the value on 0-100, the points of each criterion, and the reply it was read from."""

    value: float
    points: dict[str, int]
    reply: str


class Judge(Protocol):
    """Anything that can have an answer judged."""

    async def judge(self, request: JudgeRequest) -> Judgement:
        """Raises `JudgeFailed` when no judgement could be had."""
        ...


def read_reply(request: JudgeRequest, reply: str) -> Judgement:
    """The judgement in a reply: 100 x points earned / points possible, over the criteria that count.

    Raises:
        InvalidReply: the reply is not one JSON object with a whole number within bounds for every criterion and
            nothing else.
    """
    try:
        sheet = json.loads(reply, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    except RecursionError:
        raise InvalidReply(f"not a JSON sheet (nested too deeply): {reply[:200]!r}") from None
    except ValueError as error:  # also JSONDecodeError
        raise InvalidReply(f"not a JSON sheet ({error}): {reply[:200]!r}") from None
    if not isinstance(sheet, dict):
        raise InvalidReply(f"not a JSON object: {reply[:200]!r}")
    names = {criterion.name for criterion in request.criteria}
    if sheet.keys() != names:
        raise InvalidReply(f"the sheet names {str(sorted(sheet))[:200]}, not {sorted(names)}")
    for criterion in request.criteria:
        points = sheet[criterion.name]
        if type(points) is not int:  # a bool, a string and 40.5 are none
            raise InvalidReply(f"{criterion.name} is not a whole number: {json.dumps(points)[:50]}")
        if not criterion.lowest <= points <= criterion.highest:
            raise InvalidReply(f"{criterion.name} is {str(points)[:50]}, not {criterion.lowest} to {criterion.highest}")
    return Judgement(value_of(request.criteria, sheet), sheet, reply)


def value_of(criteria: Sequence[Criterion], points: Mapping[str, int]) -> float:
    """What a filled sheet is worth, 0-100: the points earned of those possible, over the criteria that count."""
    counted = [criterion for criterion in criteria if criterion.counts]
    return 100.0 * sum(points[c.name] for c in counted) / sum(c.highest for c in counted)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    sheet = dict(pairs)
    if len(sheet) < len(pairs):
        raise ValueError("a criterion is written twice")
    return sheet
