"""`Answering`: chat requests in, answers in OpenAI's form out, within the limits on time, memory and requests at once.

The same for the endpoint of one policy and for the service with its many adapters: what differs is who generates.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image

from actors.rollout.talk import TalkPiece, TalkRequest
from data.errors import DataError
from failures import ActorLost, ActorTimeout
from recipe import Recipe
from serve.admission import FairQueue, PixelBudget
from serve.answers import AnswerFormat, event, joined
from serve.chat import ChatRequest, SchemaFormat, parse_request
from serve.conversation import ConversationReader, ReadConversation
from serve.errors import ServiceError

THREADS = 2
"""That read requests and decode images, beside the event loop."""
LARGE_BODY = 65_536
"""Bytes from which on a body is read in a thread."""


class Talker(Protocol):
    """What generates."""

    def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """An answer piece by piece; closing it stops it. Raises `DataError` for a prompt that cannot be answered."""


class Answering:
    """One of these stands before an engine, or a pool of them."""

    def __init__(self, recipe: Recipe, reader: ConversationReader) -> None:
        """Nobody waits yet."""
        self._recipe, self.settings, self._reader = recipe, recipe.serve, reader
        self.queue = FairQueue(self.settings.max_concurrent, self.settings.max_waiting)
        self._pixels = PixelBudget(int(self.settings.megapixels_at_once * 1e6))
        self._threads = ThreadPoolExecutor(THREADS, "chat")

    async def parsed(self, body: bytes) -> ChatRequest:
        """The request in a body.

        Raises:
            ServiceError: as `parse_request`.
        """
        if len(body) < LARGE_BODY:
            return parse_request(body, self.settings)
        return await self._in_thread(parse_request, body, self.settings)

    async def respond(
        self,
        tenant: str,
        wanted: ChatRequest,
        answer_id: str,
        talker: Talker,
        arrived: float | None = None,
    ) -> Response:
        """The answer to a request: whole, or streamed as server-sent events.

        Args:
            tenant: whose turn it takes.
            wanted: the request.
            answer_id: a name for the answer that no other has.
            talker: what generates it.
            arrived: when the request came, by the clock of the event loop; the time limit begins there.

        Raises:
            ServiceError: what can be refused before the answer begins.
        """
        style = AnswerFormat(answer_id, wanted.model, wanted.return_token_ids, wanted.logprobs)
        answer = self.answer(tenant, wanted, answer_id, talker, arrived)
        first = await anext(answer)
        if wanted.stream:
            events = _events(first, answer, style, wanted.stream_options.include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        async with aclosing(answer):
            whole = joined([first, *[piece async for piece in answer]])
        return JSONResponse(style.completion(whole))

    async def answer(
        self,
        tenant: str,
        wanted: ChatRequest,
        answer_id: str,
        talker: Talker,
        arrived: float | None = None,
    ) -> AsyncGenerator[TalkPiece, None]:
        """The pieces of an answer; see `respond`. Nothing waits longer than `serve.timeout_s` after it arrived."""
        loop, limit = asyncio.get_running_loop(), self.settings.timeout_s
        deadline = (loop.time() if arrived is None else arrived) + limit
        place = self.queue.place(tenant)
        try:
            async with asyncio.timeout_at(deadline):
                await place.__aenter__()
        except TimeoutError:
            raise ServiceError(
                503, f"no engine was free within {limit:g} s: try again", "busy", retry_after_s=1
            ) from None
        try:
            async with asyncio.timeout_at(deadline):
                read = await self._in_thread(self._reader.read, wanted)
                images = await self._decoded(read)
            request = talk_request(wanted, answer_id, read.token_ids, images, self._recipe)
            async with aclosing(talker.talk(request)) as pieces:
                while True:
                    async with asyncio.timeout_at(deadline):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece
        except TimeoutError:
            raise ServiceError(504, f"the answer took longer than {limit:g} s", "timeout") from None
        except DataError as error:
            raise ServiceError(400, str(error), "invalid_prompt", "messages") from None
        except (ActorLost, ActorTimeout):
            raise ServiceError(503, "the engine was lost over this request: try again", "engine_lost",
                               retry_after_s=1) from None  # fmt: skip
        finally:
            await place.__aexit__(None, None, None)

    async def _decoded(self, read: ReadConversation) -> tuple[Image.Image, ...]:
        if not read.images:
            return ()
        async with self._pixels.held(read.pixels):
            return await self._in_thread(self._reader.decode, read)

    async def _in_thread(self, work: Any, *arguments: Any) -> Any:
        """Not in the loop's own threads, which health and the database need; a thread cannot be interrupted."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def talk_request(
    request: ChatRequest,
    request_id: str,
    token_ids: tuple[int, ...],
    images: tuple[Image.Image, ...],
    recipe: Recipe,
) -> TalkRequest:
    """What an engine is asked for a chat request whose prompt was read; the recipe gives what it leaves open."""
    wanted = request.response_format
    schema = None
    if wanted is not None and wanted.type != "text":
        schema = wanted.json_schema.schema_ if isinstance(wanted, SchemaFormat) else {}
    default = recipe.evaluation.temperature
    return TalkRequest(
        request_id=request_id,
        token_ids=token_ids,
        images=images,
        max_tokens=request.token_cap or min(recipe.rollout.max_tokens, recipe.serve.max_tokens),
        temperature=default if request.temperature is None else request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        seed=request.seed,
        stops=tuple(request.stop),
        logprobs=request.top_logprobs if request.logprobs else None,
        schema=schema,
    )


async def _events(
    first: TalkPiece, answer: AsyncGenerator[TalkPiece, None], style: AnswerFormat, with_usage: bool
) -> AsyncGenerator[str, None]:
    """The answer as server-sent events; an error after the first piece becomes the last event."""
    yield event(style.chunk(first, first=True))
    tokens = len(first.token_ids)
    async with aclosing(answer):
        try:
            async for piece in answer:
                tokens += len(piece.token_ids)
                yield event(style.chunk(piece, first=False))
        except ServiceError as error:
            yield event(error.openai_body())
            return
    if with_usage:
        yield event(style.usage_chunk(len(first.prompt_ids), tokens))
    yield "data: [DONE]\n\n"
