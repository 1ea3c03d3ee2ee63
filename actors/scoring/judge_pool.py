"""`JudgePool`: judges many answers at once and survives the judge. Lives in the driver, or in any script.

    pool = await JudgePool.start(JudgeSettings(model="Qwen/Qwen2.5-72B-Instruct", tensor_parallel=8, gpus=8), folder)
    judgement = await pool.judge(load_rubric("behavior_mcq").request(sample, answer))

Cached, limited in flight and per minute, retried with back-off, parsed strictly, re-asked once, then given up under a
named reason. What it judges, and how a reply is read, is the business of `rewards`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from actors.scoring.judge_engines import JudgeEngines
from actors.supervision.care import Counts
from actors.supervision.hosting import anywhere
from actors.supervision.waiting import now
from policies.source import judge_source
from recipe import ActorOptions
from rewards.judge import AttemptFailed, InvalidReply, JudgeFailed, Judgement, JudgeRequest, read_reply
from rewards.judge_cache import JudgeCache
from rewards.judge_endpoint import JudgeEndpoint
from rewards.rubric import rubric_texts
from rewards.settings import JudgeSettings

CACHE_FILE = "judge_cache.sqlite"
CHARACTERS_PER_TOKEN = 4
"""For the limit of tokens per minute, which providers count roughly too."""


class JudgeBackend(Protocol):
    """What turns one request into one reply."""

    identity: str
    """Everything about the judge that decides its replies: model, revision, sampling settings."""
    slots: int
    """Requests it takes at once."""

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The judge's reply to a request.

        Args:
            request: the answer to be judged.
            complaint: what was wrong with the reply before this one; None at the first time of asking.

        Raises:
            AttemptFailed: no reply, but there may be one later.
            JudgeFailed: no reply, and asking again is of no use.
        """
        ...

    async def stop(self) -> None:
        """Let go of connections and processes."""
        ...


@dataclass
class JudgeCounts(Counts):
    """What became of the requests of a pool."""

    cached: int = 0
    joined: int = 0
    """Requests that waited for an identical one in flight."""
    judged: int = 0
    seconds: float = 0.0
    """How long the judged requests were with the judge, all together; waiting for a place there is not counted."""
    asked_again: int = 0
    """Replies that were no valid sheet, and for which the judge was asked a second time."""
    unkept: int = 0
    """Judgements that the cache could not keep: there was no room, or another process held its file."""


class JudgePool:
    """A `Judge`: the one way in which answers reach a judge."""

    def __init__(
        self,
        backend: JudgeBackend,
        settings: JudgeSettings,
        cache: JudgeCache | None = None,
        counts: JudgeCounts | None = None,
    ) -> None:
        """Judge at `backend`, within the limits of `settings`; without a cache every answer is judged anew."""
        self.backend, self.settings, self.cache, self.counts = backend, settings, cache, counts or JudgeCounts()
        self._slots = asyncio.Semaphore(backend.slots)
        self._requests = _per_minute(settings.requests_per_minute)
        self._tokens = _per_minute(settings.tokens_per_minute)
        self._flying: dict[str, asyncio.Task[Judgement]] = {}

    @classmethod
    async def start(cls, settings: JudgeSettings, folder: Path, options: ActorOptions | None = None) -> JudgePool:
        """A pool with its judge ready: the endpoint of `settings.url`, or engines on the connected Ray cluster.

        Args:
            settings: the recipe's `reward.judge`.
            folder: where the cache lies, and the tiny judge is built.
            options: places the engine actors; None reserves what the settings ask for, anywhere.

        Raises:
            RewardError: nobody answers at the endpoint, or the key is not accepted.
            ActorTimeout, ActorLost: an engine did not come up.
        """
        backend: JudgeBackend
        counts = JudgeCounts()
        if settings.url is not None:
            backend = JudgeEndpoint(settings)
            try:
                await backend.check()
            except BaseException:
                await backend.stop()  # else its connections end with a warning after the error
                raise
        else:
            source = judge_source(settings.model, folder, rubric_texts())
            placed = options or anywhere(settings.cpus, settings.gpus)
            backend = await JudgeEngines.start(settings, source, placed, counts)
        return cls(backend, settings, JudgeCache(folder / CACHE_FILE) if settings.cache else None, counts)

    async def judge(self, request: JudgeRequest) -> Judgement:
        """The judgement of a request; identical requests in flight are judged once.

        Raises:
            JudgeFailed: with the reason of the last attempt; counted in `counts.failed`.
        """
        self.counts.asked += 1
        key = judge_key(self.backend.identity, request)
        if (kept := self._kept(key, request)) is not None:
            self.counts.cached += 1
            return kept
        if key in self._flying:
            self.counts.joined += 1
        else:
            task = asyncio.create_task(self._judge(key, request))
            self._flying[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(self._flying[key])

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._flying)

    async def stop(self) -> None:
        """Give up what is in flight, and let go of the judge and the cache."""
        flying = list(self._flying.values())
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        await self.backend.stop()
        if self.cache is not None:
            self.cache.close()

    def _landed(self, key: str, task: asyncio.Task[Judgement]) -> None:
        self._flying.pop(key)
        if not task.cancelled():
            task.exception()  # read here, because the caller may be gone; it is in the counts

    def _kept(self, key: str, request: JudgeRequest) -> Judgement | None:
        reply = self.cache.get(key) if self.cache is not None else None
        if reply is None:
            return None
        try:
            return read_reply(request, reply)
        except InvalidReply:  # damaged on disk: judged again, and overwritten
            return None

    async def _judge(self, key: str, request: JudgeRequest) -> Judgement:
        try:
            async with self._slots:
                began = now()
                judgement = await self._valid(request)
                self.counts.seconds += now() - began
        except JudgeFailed as error:
            self.counts.failed[error.reason] += 1
            raise
        self.counts.judged += 1
        if self.cache is not None:
            self.cache.put(key, request.rubric, self.backend.identity, judgement.reply)
            self.counts.unkept = self.cache.unkept
        return judgement

    async def _valid(self, request: JudgeRequest) -> Judgement:
        """A valid reply to the first or the second time of asking."""
        try:
            return read_reply(request, await self._reply(request, None))
        except InvalidReply as error:
            self.counts.asked_again += 1
            complaint = str(error)
        try:
            return read_reply(request, await self._reply(request, complaint))
        except InvalidReply as error:
            raise JudgeFailed("invalid_reply", str(error)) from error

    async def _reply(self, request: JudgeRequest, complaint: str | None) -> str:
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(AttemptFailed),
            stop=stop_after_attempt(self.settings.attempts),
            wait=self._wait,
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                self.counts.retried += attempt.retry_state.attempt_number > 1
                return await self._attempt(request, complaint)
        raise AssertionError("tenacity either returns or raises")

    def _wait(self, state: RetryCallState) -> float:
        """Back off at random, growing with every attempt; never shorter than the backend asked for."""
        backoff = wait_random_exponential(self.settings.backoff_s, self.settings.longest_backoff_s)(state)
        error = state.outcome.exception() if state.outcome is not None else None
        asked_for = error.retry_after_s if isinstance(error, AttemptFailed) else 0.0
        return min(max(backoff, asked_for), self.settings.longest_backoff_s)

    async def _attempt(self, request: JudgeRequest, complaint: str | None) -> str:
        if self._requests is not None:
            await self._requests.acquire()
        if self._tokens is not None:
            size = (len(request.system) + len(request.user)) / CHARACTERS_PER_TOKEN + self.settings.max_tokens
            await self._tokens.acquire(min(size, self._tokens.max_rate))
        try:
            return await asyncio.wait_for(self.backend.reply(request, complaint), self.settings.timeout_s)
        except TimeoutError:
            raise AttemptFailed("timeout", f"no reply within {self.settings.timeout_s:g} s") from None


def judge_key(identity: str, request: JudgeRequest) -> str:
    """The hash of everything that decides a judgement: judge, sampling, rubric version, sheet, and the whole prompt."""
    parts = [identity, request.rubric, request.system, request.user, json.dumps(request.schema, sort_keys=True)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _per_minute(rate: float | None) -> AsyncLimiter | None:
    return None if rate is None else AsyncLimiter(rate, 60.0)
