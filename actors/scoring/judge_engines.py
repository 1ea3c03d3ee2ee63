"""`JudgeEngines`: the judge's own actors as one judge backend. Spreads requests, and replaces a lost engine.

Lives in the driver. Each engine has a lane: requests that arrive within a few milliseconds travel in one call, and
each reply comes back the moment it is there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from actors.errors import ActorLost, ActorTimeout
from actors.rollout.vllm_engine import vllm_environment
from actors.scoring.judge_backend import AttemptFailed, conversation
from actors.scoring.judge_engine import JudgeEngine, SheetReply, SheetRequest
from actors.waiting import ActorOptions, stream, within
from rewards.judge import JudgeFailed, JudgeRequest
from rewards.settings import JudgeSettings

GATHER_S = 0.004
"""How long a lane gathers requests for one call: little beside any judgement, and a call costs about a millisecond."""
QUEUED = 0.25
"""Requests that wait inside an engine, as a share of those it runs: a place that falls free is taken in the very next
step, not after a round trip to the pool."""
STOP_TIMEOUT_S = 30.0


class JudgeEngines:
    """A backend (`JudgeBackend`) on engines of our own."""

    def __init__(self, lanes: list[_Lane], settings: JudgeSettings, identity: str) -> None:
        """Use `start` instead."""
        self._lanes, self.identity = lanes, identity
        self.slots = math.ceil(settings.max_concurrent * len(lanes) * (1.0 + QUEUED))

    @classmethod
    async def start(cls, settings: JudgeSettings, folder: str, options: ActorOptions) -> JudgeEngines:
        """Start every engine on the chat model in `folder` and wait until all hold it.

        Raises:
            ActorTimeout, ActorLost: an engine did not come up.
        """
        environment = {"env_vars": vllm_environment(settings, settings.memory_gib)}

        def actor(index: int) -> Any:
            placed = options("judge", index) | {"runtime_env": environment, "max_concurrency": 1000}
            return ray.remote(JudgeEngine).options(**placed).remote(folder, settings)

        lanes = [_Lane(f"judge engine {i}", settings, lambda i=i: actor(i)) for i in range(settings.engines)]  # type: ignore[misc]
        await asyncio.gather(*(lane.open() for lane in lanes))
        decisive = settings.model_dump(include={"model", "revision", "temperature", "seed", "max_tokens", "dtype"})
        return cls(lanes, settings, json.dumps({"vllm": folder} | decisive))

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The reply of the engine with the least to do; waits for one to come back when all are lost."""
        alive = [lane for lane in self._lanes if not lane.given_up]
        if not alive:
            raise JudgeFailed("actor_lost", "every judge engine was lost more often than reward.judge.restarts allows")
        lane = min(alive, key=lambda lane: (not lane.up.is_set(), lane.load))
        reply = await lane.ask(conversation(request, complaint), request.schema)
        if reply.refused is not None:
            raise JudgeFailed("refused", reply.refused)
        return reply.text

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of all prompts so far, and how many of them the prefix caches served."""
        return {
            "prompt_tokens": sum(lane.prompt_tokens for lane in self._lanes),
            "cached_tokens": sum(lane.cached_tokens for lane in self._lanes),
        }

    @property
    def lost(self) -> int:
        """How often an engine was lost."""
        return sum(lane.lost for lane in self._lanes)

    @property
    def actors(self) -> list[Any]:
        """The actors' handles, in order."""
        return [lane.actor for lane in self._lanes]

    async def stop(self) -> None:
        """Shut the engines down."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))


class _Lane:
    """The way to one engine: gathers requests into calls, hands replies back, replaces the engine when it is lost."""

    def __init__(self, name: str, settings: JudgeSettings, actor: Callable[[], Any]) -> None:
        self.name, self.settings, self.up = name, settings, asyncio.Event()
        self.lost = self.prompt_tokens = self.cached_tokens = 0
        self.given_up = False
        self._make, self._numbers = actor, itertools.count()
        self._gathered: list[SheetRequest] = []
        self._waiting: dict[int, asyncio.Future[SheetReply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def load(self) -> int:
        return len(self._waiting)

    async def open(self) -> None:
        self.actor = self._make()
        await within(self.settings.start_timeout_s, f"{self.name} (starting)", self.actor.start.remote())
        self.up.set()

    async def ask(self, messages: list[dict[str, str]], schema: dict[str, Any]) -> SheetReply:
        """One reply. The caller bounds the wait; a caller that went away is forgotten."""
        await self.up.wait()
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        if not self._gathered:
            self._begin(self._send())
        self._gathered.append(SheetRequest(number, messages, schema))
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        self.given_up = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.up.is_set():
            await within(STOP_TIMEOUT_S, f"{self.name} (stop)", self.actor.stop.remote())

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        await asyncio.sleep(GATHER_S)
        requests, self._gathered = self._gathered, []
        actor = self.actor
        generator = actor.replies.options(num_returns="streaming").remote(requests)
        what = f"{self.name} (judging {len(requests)} answers)"
        try:
            async for reply in stream(self.settings.timeout_s, what, generator):
                self._hand_back(reply)
        except (ActorLost, ActorTimeout, RayError) as error:
            self._lose(actor, requests, error)

    def _hand_back(self, reply: SheetReply) -> None:
        self.prompt_tokens += reply.prompt_tokens
        self.cached_tokens += reply.cached_tokens
        future = self._waiting.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply)

    def _lose(self, actor: Any, requests: list[SheetRequest], error: Exception) -> None:
        """Fail what was asked, so that the pool asks elsewhere; and replace the engine, once for all its calls."""
        failure = AttemptFailed("actor_lost", " ".join(str(error).split())[:300])
        for request in requests:
            future = self._waiting.get(request.number)
            if future is not None and not future.done():
                future.set_exception(failure)
        if actor is self.actor and self.up.is_set():
            self.up.clear()
            self._begin(self._replace())

    async def _replace(self) -> None:
        while not self.given_up:
            self.lost += 1
            ray.kill(self.actor)
            if self.lost > self.settings.restarts:
                self.given_up = True
                return
            try:
                await self.open()
            except (ActorLost, ActorTimeout, RayError):
                continue
            return
