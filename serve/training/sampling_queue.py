"""`SamplingQueue`: hands sampling requests to the engines, all that wait at once, and asks again what was lost.

A request draws by a seed of its own, so that what is asked again gives the same tokens where the engine computes alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from actors.rollout.adapter_engine import AdapterFolder, TokenAnswer, TokenRequest
from serve.database.connection import Database
from serve.database.tables import Sampler, Weights
from serve.errors import UserError
from serve.operations.lease import LeaseLost
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.settings import TrainingServiceSettings
from serve.tenants.quotas import charge
from serve.training.futures import Answer, Futures, Taken, failed
from serve.training.keeper import ModelKeeper
from serve.training.prompts import Chunk, ImageChunk, PromptReader, StoredImage
from serve.training.wire import MEDIA_TYPE, sample_response
from serve.training.workers import WORKER_LOSSES, SamplePool

KINDS = ("asample",)
OPEN_CALLS = 12
"""Calls to the engines at once; each takes all that waited when it was made."""


class SamplingQueue:
    """All that waits for the engines."""

    def __init__(
        self,
        database: Database,
        futures: Futures,
        pool: SamplePool,
        keeper: ModelKeeper,
        reader: PromptReader,
        settings: TrainingServiceSettings,
        metrics: ServiceMetrics,
    ) -> None:
        """Empty; `restore` finds what an earlier server left."""
        self._database, self._futures, self._pool, self._keeper = database, futures, pool, keeper
        self._reader, self._settings, self._metrics = reader, settings, metrics
        self._waiting: list[tuple[Taken, float]] = []
        self._changed = asyncio.Event()
        self._calls = asyncio.Semaphore(OPEN_CALLS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()
        self.draining = False
        self._failure: BaseException | None = None
        """What left requests without a result: the next server asks them again."""

    @property
    def open(self) -> int:
        """How many requests wait for their result."""
        return len(self._held)

    async def restore(self) -> None:
        """Take up every request that is on disk without a result."""
        for taken in await asyncio.to_thread(self._futures.queued, KINDS):
            self.arrived(taken)

    def arrived(self, taken: Taken) -> None:
        """A request is on disk."""
        if taken.state == "queued" and taken.id not in self._held:  # else it was sent again
            self._held.add(taken.id)
            self._waiting.append((taken, time.monotonic()))
            self._metrics.queued.labels("sampling").set(self.open)
            self._changed.set()

    async def run(self) -> None:
        """Hand on what waits until `draining` is set, and wait for what was handed on.

        Raises:
            Exception: results could not be written.
        """
        while not self.draining:
            await self._changed.wait()
            if self._failure is not None:
                raise self._failure
            await self._calls.acquire()
            self._changed.clear()
            batch, self._waiting = self._waiting, []
            task = asyncio.create_task(self._serve(batch))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._calls.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._changed.set()

    def drain(self) -> None:
        """End `run` once what was handed on has ended."""
        self.draining = True
        self._changed.set()

    async def _serve(self, batch: list[tuple[Taken, float]]) -> None:
        """Results are written while the next ones come; they are on disk when this returns."""
        known = {taken.id: (taken.tenant_id, at) for taken, at in batch}
        asked: dict[str, TokenRequest] = {}
        refused: dict[str, str] = {}
        await asyncio.to_thread(self._prepare, [taken for taken, _ in batch], asked, refused)
        for request_id in known.keys() - asked.keys() - refused.keys():
            self._let_go(request_id)
        try:
            async with asyncio.TaskGroup() as ending:
                for request_id, sentence in refused.items():
                    ending.create_task(self._end(TokenAnswer(request_id, refused=sentence), *known[request_id]))
                async for answer, broken in self._answers(asked):
                    request = asked.pop(answer.request_id)
                    ending.create_task(self._end(answer, *known[answer.request_id], request, broken))
        except ExceptionGroup as failures:  # all for one reason, such as results that cannot be written
            raise failures.exceptions[0] from failures

    def _let_go(self, request_id: str) -> None:
        self._held.discard(request_id)
        self._metrics.queued.labels("sampling").set(self.open)

    async def _answers(self, asked: dict[str, TokenRequest]) -> AsyncIterator[tuple[TokenAnswer, str | None]]:
        """An answer to each request, or why there is none; who takes it removes its request from `asked`."""
        for attempt in range(1, self._settings.attempts + 1):
            if not asked:
                return
            try:
                async for answer in self._pool.sample(list(asked.values())):
                    yield answer, None
            except WORKER_LOSSES as loss:
                self._metrics.lost.labels("engine").inc()
                tell("an engine was lost", level=30, requests=len(asked), attempt=attempt, why=str(loss))
        for request_id in list(asked):
            sentence = f"an engine was lost {self._settings.attempts} times over this request: ask again later"
            yield TokenAnswer(request_id), sentence

    async def _end(
        self,
        answer: TokenAnswer,
        tenant: str,
        arrived: float,
        request: TokenRequest | None = None,
        broken: str | None = None,
    ) -> None:
        if broken is not None or answer.refused is not None:
            outcome = "server" if broken is not None else "user"
            result, tokens = failed(broken or answer.refused or "", outcome), 0
        else:
            outcome, tokens = "done", sum(len(one.token_ids) for one in answer.sequences)
            sequences = [(one.token_ids, one.logprobs, one.stopped) for one in answer.sequences]
            scored = _last(answer.prompt_logprobs, None if request is None else request.scored_last)
            result = Answer(MEDIA_TYPE, sample_response(sequences, scored, answer.cached))
            self._metrics.tokens.labels("sampled").inc(tokens)
            if request is not None:
                self._metrics.tokens.labels("prompted").inc(len(request.token_ids))
                self._metrics.images.inc(len(request.images))

        def charged(session: Session) -> None:
            if tokens:
                charge(session, tenant, tokens, 0)

        await self._futures.end(answer.request_id, result, failed=outcome != "done", also=charged)
        self._let_go(answer.request_id)
        self._metrics.requests.labels("asample", outcome).inc()
        self._metrics.request_seconds.labels("asample").observe(time.monotonic() - arrived)

    def _prepare(self, batch: list[Taken], asked: dict[str, TokenRequest], refused: dict[str, str]) -> None:
        """Make every request of a batch ready for the engines, or say why it cannot be asked."""
        bodies = self._futures.bodies([one.id for one in batch])
        images, adapters = dict[str, StoredImage](), dict[str, AdapterFolder | None]()
        for taken in batch:
            if taken.id not in bodies:  # sent again just as it ended
                continue
            try:
                body = json.loads(bodies[taken.id])
                images |= self._keeper.images(set(_digests(body)) - images.keys())
                if taken.subject not in adapters:
                    adapters[taken.subject] = self._adapter(taken.subject)
                asked[taken.id] = self._request(taken.id, body, images, adapters[taken.subject])
            except UserError as error:
                refused[taken.id] = str(error)
            except LeaseLost:
                raise
            except Exception as error:  # it is this request's result: no other may suffer for it
                tell("a request failed", level=40, request=taken.id, kind=taken.kind, error=repr(error))
                refused[taken.id] = f"the server could not read this request ({type(error).__name__})"

    def _request(
        self, request_id: str, body: dict[str, Any], images: dict[str, StoredImage], adapter: AdapterFolder | None
    ) -> TokenRequest:
        chunks = [_chunk(one) for one in body["prompt"]["chunks"]]
        prompt = self._reader.expanded(chunks, images, "prompt")
        params, room = body["sampling_params"], self._reader.max_length - len(prompt.token_ids)
        wanted = params.get("max_tokens")
        if room < 1 or (wanted or 1) > room:
            raise UserError(
                f"sampling_params.max_tokens={wanted} does not fit: the prompt has {len(prompt.token_ids)} positions, "
                f"and this model takes {self._reader.max_length} in all"
            )
        last = body.get("prompt_logprobs_last_n")
        if last is not None and not 1 <= last < len(prompt.token_ids):
            raise UserError(f"prompt_logprobs_last_n={last} must lie between 1 and {len(prompt.token_ids) - 1}")
        stop = params.get("stop")
        texts, ids = _stops(stop)
        seed = params.get("seed")
        if seed is None:
            seed = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:7], "big")
        return TokenRequest(
            request_id=request_id,
            token_ids=prompt.folded_ids,
            images=tuple((digest, str(self._keeper.image_path(digest))) for digest in prompt.images),
            adapter=adapter,
            count=body["num_samples"],
            max_tokens=wanted or room,
            temperature=params["temperature"],
            top_p=params["top_p"],
            top_k=params["top_k"],
            seed=seed,
            stop_texts=texts,
            stop_ids=ids,
            ignore_end=stop == [],
            prompt_logprobs=bool(body.get("prompt_logprobs")),
            scored_last=last,
        )

    def _adapter(self, sampler_id: str) -> AdapterFolder | None:
        with self._database.reading() as session:
            sampler = session.get_one(Sampler, sampler_id)
            if sampler.weights_number is None:
                return None
            folder = session.scalar(select(Weights.folder).where(Weights.number == sampler.weights_number))
        if folder is None:
            raise UserError(f"the weights of sampler {sampler_id} were deleted or have expired: make another sampler")
        return AdapterFolder(sampler.weights_number, folder)


def _digests(body: dict[str, Any]) -> list[str]:
    """Of the images that a sampling request shows."""
    return [one["digest"] for one in body["prompt"]["chunks"] if one["type"] == "image"]


def _chunk(given: dict[str, Any]) -> Chunk:
    if given["type"] == "encoded_text":
        return tuple(given["tokens"])
    return ImageChunk(given["digest"], given.get("expected_tokens"))


def _last(scored: Sequence[float] | None, wanted: int | None) -> Sequence[float] | None:
    """Log-probabilities of a prompt of which only the last are wanted."""
    if scored is None or wanted is None:
        return scored
    return [math.nan] * (len(scored) - wanted) + list(scored[len(scored) - wanted :])


def _stops(stop: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts and tokens that end a sequence."""
    if stop is None:
        return (), ()
    if isinstance(stop, str):
        return (stop,), ()
    return tuple(one for one in stop if isinstance(one, str)), tuple(one for one in stop if isinstance(one, int))
