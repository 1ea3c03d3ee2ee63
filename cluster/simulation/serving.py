"""What stands in for engines and judges: they answer as real ones do, say nothing of worth, and only take time.

Each is an actor of this process (`actors.supervision.hosting.LocalActor`), made, asked, probed and started again by the
real pools.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any, ClassVar

from actors.rollout.engine import Ability, Health, State, in_flight_of
from actors.scoring.judge_engine import SheetReply, SheetRequest
from actors.supervision.waiting import now
from actors.sync.transport import Bucket, Meeting, Receipt
from cluster.simulation.server import Decoded, Server
from cluster.simulation.world import World
from data.rollout import GenerationRequest, Rollout, WeightSpan
from extension import NoOptions
from recipe import Recipe
from rewards.settings import JudgeSettings

CHECKSUM = 1
LOGPROB = -0.5
"""Of every token, in engines and learner, so that the probes agree."""
GENERATING, JUDGING, SYNC = "generating", "judging", "weight sync"
ABILITIES: frozenset[Ability] = frozenset({"adapters", "tensor_parallel", "seeds", "cuts", "swaps"})


@cache
def tokens_of(count: int) -> tuple[int, ...]:
    """`count` token ids; one tuple for all responses of a length."""
    return tuple(range(count))


@cache
def logprobs_of(count: int) -> tuple[float, ...]:
    """Their log-probabilities."""
    return (LOGPROB,) * count


class SimulatedEngine:
    """A `RolloutEngine` whose responses take as long as the forecast has them take."""

    Settings = NoOptions
    world: ClassVar[World]

    @staticmethod
    def environment(recipe: Recipe, options: Any) -> dict[str, str]:
        """See `RolloutEngine`."""
        return {}

    def __init__(self, name: str, folder: str, recipe: Recipe, options: Any, seed: int) -> None:
        """See `RolloutEngine`."""
        self.name, self.version = name, -1
        self.state: State = "new"
        self.index = int(name.rpartition(" ")[2])
        self._in_flight = in_flight_of(recipe, ABILITIES)
        self.row = self.world.timeline.row(f"engine {self.index}", GENERATING)
        self._server = Server(self.world.engine_step_s, self.world.at_once, self.row)

    async def start(self) -> float:
        """See `RolloutEngine`."""
        took = await self.world.loaded("rollout", self.index, self.world.policy)
        self.state = "generating"
        return took

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout]:
        """See `RolloutEngine`."""
        came, begun = asyncio.Queue[Decoded](), list[Decoded]()
        known = set[str]()
        for request in requests:
            tokens = min(request.sampling.max_tokens, self.world.response_tokens(request.request_id))
            prefill = 0.0 if request.sample.id in known else self.world.prompt_s  # a group's prompt is computed once
            known.add(request.sample.id)
            one = Decoded(self.world.work.prompt, tokens, prefill, came.put_nowait, (request, now()))
            begun.append(one)
            self._server.begin(one)
        try:
            for _ in requests:
                yield self._rollout(await came.get())
        finally:
            for one in begun:
                self._server.drop(one)

    def _rollout(self, one: Decoded) -> Rollout:
        request, asked_at = one.about
        tokens = int(one.tokens)
        spans = self._spans(one)
        return Rollout(
            request_id=request.request_id,
            sample_id=request.sample.id,
            prompt_ids=tokens_of(self.world.work.prompt),
            token_ids=tokens_of(tokens),
            logprobs=logprobs_of(tokens),
            text=self.world.said(request.request_id, tokens),
            finish_reason="length" if tokens >= request.sampling.max_tokens else "stop",
            weight_version=spans[0].version if spans else self.version,
            engine=self.name,
            started_at=asked_at,
            finished_at=now(),
            weight_spans=spans if len(spans) > 1 else (),
            dropped=one.dropped,
        )

    def _spans(self, one: Decoded) -> tuple[WeightSpan, ...]:
        """Which version sampled what: those that were swapped while it ran, and the one that it ended with."""
        ends = [*one.marks, (self.version, one.tokens)]
        starts = [0, *(int(had) for _, had in one.marks)]
        return tuple(WeightSpan(version, start, int(end)) for (version, end), start in zip(ends, starts, strict=True))

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """See `RolloutEngine`."""

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """See `RolloutEngine`; what is under way goes on, is computed again or begun again, as the recipe says."""
        assert self.state == "generating", f"weights come to {self.name}, which is {self.state}"
        began, seconds = now(), self.world.publish_s
        running = self._server.running
        if self._in_flight == "recompute":
            seconds += len(running) * self.world.prompt_s
        self.row.idle(began)
        self._server.hold(seconds)
        await asyncio.sleep(seconds)
        for one in self._server.running:
            if self._in_flight == "drop":
                self._server.again(one)
            else:
                one.marks.append((self.version, self._server.had(one)))
        self.version = version
        self.row.did(SYNC, began, now())
        workers = self.world.recipe.rollout.tensor_parallel
        return [Receipt((CHECKSUM,) * len(buckets), len(buckets), 0, ()) for _ in range(workers)]

    async def sleep(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "generating":
            self._server.pause()
            await self.world.swapped(self.row)
            self.state = "asleep"

    async def wake(self) -> None:
        """See `RolloutEngine`."""
        if self.state == "asleep":
            await self.world.swapped(self.row)
            self._server.resume()
            self._server.hold(len(self._server.running) * self.world.prompt_s)  # the cache was dropped
            self.state = "generating"

    async def health(self) -> Health:
        """See `RolloutEngine`."""
        return Health(self.state, self.version, self._server.load)

    @property
    def queued(self) -> int:
        """Responses that wait for a place in the engine."""
        return self._server.waiting

    async def stop(self) -> None:
        """See `RolloutEngine`."""
        self.state = "stopped"
        self._server.stop()

    def died(self) -> None:
        """What a death leaves of it: nothing."""
        self._server.stop()


class SimulatedJudge:
    """A judge's engine whose sheets are filled by dice."""

    world: ClassVar[World]
    made: ClassVar[int] = 0

    def __init__(self, folder: str, settings: JudgeSettings) -> None:
        """As `actors.scoring.judge_engine.JudgeEngine`."""
        self.index = type(self).made % settings.engines
        type(self).made += 1
        self.row = self.world.timeline.row(f"judge {self.index}", JUDGING)
        self._server = Server(self.world.judge_step_s, settings.max_concurrent, self.row)

    async def start(self) -> float:
        """Load."""
        assert self.world.forecast.judge is not None
        return await self.world.loaded("judge", self.index, self.world.forecast.judge)

    async def replies(self, requests: Sequence[SheetRequest]) -> AsyncIterator[tuple[int, SheetReply]]:
        """Each request's position and reply, as they end."""
        came, begun = asyncio.Queue[Decoded](), list[Decoded]()
        for position, request in enumerate(requests):
            fresh = self.world.tokens_in(request.messages[-1]["content"])
            one = Decoded(
                round(fresh),
                self.world.reply_tokens(),
                self.world.judge_prompt_s(fresh),
                came.put_nowait,
                (position, request),
            )
            begun.append(one)
            self._server.begin(one)
        try:
            for _ in requests:
                position, request = (await came.get()).about
                yield position, SheetReply(_filled(request, self.world.dice))
        finally:
            for one in begun:
                self._server.drop(one)

    async def stop(self) -> None:
        """Do nothing any more."""
        self._server.stop()

    def died(self) -> None:
        """What a death leaves of it: nothing."""
        self._server.stop()


def _filled(request: SheetRequest, dice: random.Random) -> str:
    """A valid sheet."""
    points = request.schema["properties"]
    return json.dumps({name: dice.randint(one["minimum"], one["maximum"]) for name, one in points.items()})
