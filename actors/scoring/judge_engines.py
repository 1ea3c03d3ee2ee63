"""`JudgeEngines`: the judge's own actors as one backend of judgements (`JudgeBackend`). Lives in the driver.

Requests that come within a few milliseconds travel in one call, and each reply comes back the moment it is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

from actors.scoring.gatherer import Gatherer
from actors.scoring.judge_engine import JudgeEngine, SheetReply, SheetRequest
from actors.supervision.care import LOSSES, Care, Counts, Probe
from actors.supervision.hosting import Host, in_ray
from actors.supervision.supervisor import Supervised, Supervisor
from policies.vllm_environment import vllm_environment
from recipe import ActorOptions
from rewards.judge import AttemptFailed, JudgeFailed, JudgeRequest
from rewards.settings import JudgeSettings

GATHER_S = 0.004
"""How long requests are gathered for one call: little beside any judgement, and a call costs about a millisecond."""
QUEUED = 0.25
"""Requests that wait inside an engine, as a share of those it runs: a place that falls free is taken in the very next
step, not after a round trip to the pool."""


class JudgeEngines:
    """A backend (`JudgeBackend`) on engines of our own."""

    def __init__(
        self,
        settings: JudgeSettings,
        folder: str,
        options: ActorOptions,
        counts: Counts,
        engine_class: type[Any] = JudgeEngine,
        host: Host = in_ray,
    ) -> None:
        """Use `start` instead; `host` makes actors of `engine_class`."""
        decisive = settings.model_dump(include={"model", "revision", "temperature", "seed", "max_tokens", "dtype"})
        decisive |= {"four_bit": True} if settings.four_bit else {}
        self.identity, self.timeout_s = json.dumps({"vllm": folder} | decisive), settings.timeout_s
        self.slots = math.ceil(settings.max_concurrent * settings.engines * (1.0 + QUEUED))
        self.prompt_tokens = self.cached_tokens = 0
        """Tokens of all prompts so far, and how many of them the prefix caches served."""
        environment = {"env_vars": vllm_environment(settings.threads, settings.cpus, settings.memory_gib)}

        def make(index: int) -> list[Any]:
            placed = options("judge", index) | {"runtime_env": environment, "max_concurrency": 1000}
            return [host(engine_class, placed, folder, settings)]

        care = Care(
            start_timeout_s=settings.start_timeout_s,
            restarts=settings.restarts,
            budget="reward.judge.restarts",
            probe=Probe(settings.timeout_s),
            stop="stop",
        )
        self.engines = Supervisor("judge engine", settings.engines, make, care, counts)
        self._gatherer = Gatherer[SheetRequest, SheetReply](
            self.engines, self._call, wait_s=GATHER_S, most=settings.max_concurrent, calls=self.slots
        )

    @classmethod
    async def start(
        cls, settings: JudgeSettings, folder: str, options: ActorOptions, counts: Counts | None = None
    ) -> JudgeEngines:
        """Start every engine on the chat model in `folder` and wait until all hold it; losses go into `counts`.

        Raises:
            ActorTimeout, ActorLost: an engine did not come up.
        """
        backend = cls(settings, folder, options, counts or Counts())
        await backend.engines.start()
        return backend

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The reply of the engine with the least to do; waits for one to come back when all are lost."""
        try:
            reply = await self._gatherer.ask(SheetRequest(request.messages(complaint), request.schema))
        except LOSSES as error:
            failed = JudgeFailed if self.engines.exhausted else AttemptFailed
            raise failed("actor_lost", str(error)) from error
        if reply.refused is not None:
            raise JudgeFailed("refused", reply.refused)
        return reply.text

    async def stop(self) -> None:
        """Shut the engines down."""
        await self._gatherer.close()

    async def _call(self, engine: Supervised, requests: list[SheetRequest]) -> AsyncIterator[tuple[int, SheetReply]]:
        async for position, reply in engine.stream(self.timeout_s, "replies", requests):
            self.prompt_tokens += reply.prompt_tokens
            self.cached_tokens += reply.cached_tokens
            yield position, reply
