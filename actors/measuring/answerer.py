"""What answers a benchmark's questions: our own engines, or an OpenAI-compatible endpoint. Scores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from data.rollout import Rollout, SamplingSettings
from evaluation.suites.suite import Question
from recipe import ActorOptions, Recipe

if TYPE_CHECKING:
    from actors.rollout.pool import EnginePool


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a benchmark's question, by the question's key; `repeat` counts from 0, times are in seconds.

    Numbers of tokens are None where nobody tells them. `failure` says why there is no answer; the text is empty then.
    """

    key: str
    repeat: int
    text: str
    finish_reason: Literal["stop", "length"]
    response_tokens: int | None
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
        """Hand every reply to `finished` as it ends; return when all have.

        Repeats are drawn by different seeds, where seeds are taken.

        Raises:
            ActorLost, ActorTimeout: an engine stopped answering.
            DataError: an image cannot be read, a prompt does not fit, or the endpoint refuses whatever it is asked.
        """
        ...

    async def stop(self) -> None:
        """Let go of processes and connections."""
        ...


class EngineAnswerer:
    """The rollout engines, with whatever weights they hold."""

    def __init__(self, engines: EnginePool, image_tokens: frozenset[int]) -> None:
        """`image_tokens` are the ids that stand for images in a prompt."""
        self._engines, self._image_tokens = engines, image_tokens

    @classmethod
    async def start(cls, recipe: Recipe, folder: str, options: ActorOptions, role: str = "rollout") -> EngineAnswerer:
        """Start engines on the checkpoint in `folder`; they and their places have the given role.

        Raises:
            ExtensionError, ActorTimeout, ActorLost: as `EnginePool.launch` and `started`.
        """
        # Here, because they bring ray and torch: benchmarks are read before either is needed.
        from actors.rollout.pool import EnginePool
        from policies.model import image_token_ids

        engines = await EnginePool.launch(recipe, folder, options, role=role).started()
        return cls(engines, image_token_ids(folder, recipe.policy))

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        """See `Answerer`."""
        waiting: dict[str, Asked] = {}
        requests = []
        for question, repeat in asked:
            seed = sampling.seed + repeat if self._engines.takes_seeds and sampling.seed is not None else None
            (request,) = self._engines.requests([question.sample], 1, replace(sampling, seed=seed))
            waiting[request.request_id] = (question, repeat)
            requests.append(request)

        def hand_over(rollout: Rollout) -> None:
            finished(self._reply(*waiting[rollout.request_id], rollout))

        await self._engines.generate(requests, hand_over)

    async def stop(self) -> None:
        """End the engines."""
        await self._engines.end()

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
