"""Whoever answers a benchmark's questions: engines of ours, or an OpenAI-compatible endpoint. Scores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from actors.engine_pool import EnginePool
from actors.rollout import Rollout, SamplingSettings
from evaluation.suite import Question


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a benchmark's question, by the question's key; `repeat` counts from 0, times are in seconds.

    `failure` says why there is none; the text is empty then.
    """

    key: str
    repeat: int
    text: str
    finish_reason: Literal["stop", "length"]
    response_tokens: int
    image_tokens: int | None
    seconds: float
    failure: str | None = None


Asked = tuple[Question, int]
"""A question and which of its repeats is wanted."""


class Answerer(Protocol):
    """Answers many questions at once."""

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        """Hand every reply to `finished` as it ends; return when all have. Repeats are drawn by different seeds.

        Raises:
            ActorLost, ActorTimeout: an engine stopped answering.
            DataError: an image cannot be read, or the endpoint refuses everything it is asked.
        """
        ...


class EngineAnswerer:
    """The rollout engines, with whatever weights they hold."""

    def __init__(self, engines: EnginePool, image_tokens: frozenset[int]) -> None:
        """`image_tokens` are the ids that stand for images in a prompt."""
        self._engines, self._image_tokens = engines, image_tokens

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        """See `Answerer`."""
        waiting: dict[str, Asked] = {}
        requests = []
        for question, repeat in asked:
            seeded = replace(sampling, seed=None if sampling.seed is None else sampling.seed + repeat)
            (request,) = self._engines.requests([question.sample], 1, seeded)
            waiting[request.request_id] = (question, repeat)
            requests.append(request)
        await self._engines.generate(
            requests, lambda rollout: finished(self._reply(*waiting[rollout.request_id], rollout))
        )

    def _reply(self, question: Question, repeat: int, rollout: Rollout) -> Reply:
        return Reply(
            key=question.key,
            repeat=repeat,
            text=rollout.text,
            finish_reason=rollout.finish_reason,
            response_tokens=len(rollout.token_ids),
            image_tokens=sum(token in self._image_tokens for token in rollout.prompt_ids),
            seconds=rollout.finished_at - rollout.started_at,
        )
