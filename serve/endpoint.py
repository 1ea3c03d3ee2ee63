"""The HTTP endpoint of a policy as a Ray Serve deployment: keys, caps, errors in OpenAI's form, streaming."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image
from ray import serve
from starlette.exceptions import HTTPException

from recipe import Recipe
from serve.chat import AnswerFormat, ApiError, ChatRequest, Piece, event, parse_request
from serve.engine import Delta, PolicyEngine
from serve.images import ImageRefused, decode_data_uri

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MIB = 2**20

api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@api.exception_handler(ApiError)
async def _refused(_: Request, error: ApiError) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(error.status)
    return JSONResponse(error.body(), error.status, headers)


@api.exception_handler(HTTPException)
async def _no_such_route(request: Request, error: HTTPException) -> JSONResponse:
    refusal = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    return JSONResponse(refusal.body(), error.status_code, error.headers)


@api.exception_handler(Exception)
async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Starlette raises the error again after this answer, so that the replica's log holds it."""
    failure = ApiError(500, f"the server failed on this request ({type(error).__name__}); its log says why")
    return JSONResponse(failure.body(), 500)


def key_digest(key: str) -> str:
    """What the deployment keeps of the key: it travels through Ray's store, so the key itself must not."""
    return hashlib.sha256(key.encode()).hexdigest()


@serve.ingress(api)
class PolicyEndpoint:
    """One replica: the engine and the routes in front of it."""

    def __init__(self, policy_folder: str, recipe_json: str, digest: str) -> None:
        """Load the policy of `policy_folder`; `digest` is the `key_digest` every `/v1` request must match."""
        recipe: Recipe = Recipe.model_validate_json(recipe_json)
        self._settings = recipe.serve
        self._model = recipe.run.name
        self._digest = digest
        self._running = 0
        self._engine = PolicyEngine(Path(policy_folder), recipe)

    def __del__(self) -> None:
        """Ray Serve calls this when it stops the replica."""
        if hasattr(self, "_engine"):
            self._engine.close()

    async def check_health(self) -> None:
        """Ray Serve asks this from time to time and replaces a replica whose engine process is gone."""
        await self._engine.check()

    @api.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Whether the engine lives; needs no key and tells nothing else."""
        await self._engine.check()
        return {"status": "ok"}

    @api.get("/v1/models")
    async def models(self, request: Request) -> dict[str, Any]:
        """The one model that is served: the run's name."""
        self._authorise(request)
        entry = {"id": self._model, "object": "model", "created": 0, "owned_by": "autodriverl"}
        return {"object": "list", "data": [entry]}

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        """Answer a conversation with images; whole, or streamed as server-sent events."""
        self._authorise(request)
        wanted = parse_request(await self._body(request), self._settings, self._model)
        style = AnswerFormat(f"chatcmpl-{uuid.uuid4().hex}", self._model, wanted.return_token_ids)
        answer = self._answer(wanted, style.answer_id)
        first = await anext(answer)  # what can be refused is refused here, with a status of its own
        if wanted.stream:
            events = self._events(first, answer, style, wanted.stream_options.include_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        pieces = [first.piece, *[delta.piece async for delta in answer]]
        text, ids = "".join(piece.text for piece in pieces), tuple(i for piece in pieces for i in piece.token_ids)
        whole = Piece(text, ids, pieces[-1].finish_reason)
        return JSONResponse(style.completion(whole, first.prompt_ids))

    @api.api_route("/v1/{path:path}", methods=EVERY_METHOD)
    async def unknown(self, request: Request, path: str) -> Response:
        """Anything else below /v1: refused without a key like everything there, unknown with one."""
        self._authorise(request)
        raise ApiError(404, f"there is no {request.method} /v1/{path} here", "unknown_url")

    def _authorise(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key_digest(key), self._digest):
            raise ApiError(401, "missing or wrong bearer key", "invalid_api_key")

    async def _body(self, request: Request) -> bytes:
        settings = self._settings
        body = bytearray()
        try:
            async with asyncio.timeout(settings.timeout_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > settings.max_body_mib * MIB:
                        raise ApiError(413, f"the request body is larger than {settings.max_body_mib:g} MiB")
        except TimeoutError:
            raise ApiError(408, f"the request body did not arrive within {settings.timeout_s:g} s") from None
        return bytes(body)

    async def _answer(self, wanted: ChatRequest, answer_id: str) -> AsyncGenerator[Delta, None]:
        """The engine's answer within the endpoint's limits on time and on requests at once."""
        settings = self._settings
        if self._running >= settings.max_concurrent:
            raise ApiError(
                429, f"{self._running} requests are being answered already; try again", "rate_limit_exceeded"
            )
        deadline = asyncio.get_running_loop().time() + settings.timeout_s
        self._running += 1
        try:
            images = await asyncio.to_thread(self._images, wanted)
            async with aclosing(self._engine.answer(wanted, images, answer_id)) as pieces:
                while True:
                    async with asyncio.timeout_at(deadline):
                        piece = await anext(pieces, None)
                    if piece is None:
                        return
                    yield piece
        except TimeoutError:
            raise ApiError(504, f"the answer took longer than {settings.timeout_s:g} s", "timeout") from None
        finally:
            self._running -= 1

    async def _events(
        self, first: Delta, answer: AsyncGenerator[Delta, None], style: AnswerFormat, with_usage: bool
    ) -> AsyncGenerator[str, None]:
        """The answer as server-sent events; an error after the first piece becomes the last event."""
        yield event(style.chunk(first.piece, first=True))
        tokens = len(first.piece.token_ids)
        async with aclosing(answer):
            try:
                async for delta in answer:
                    tokens += len(delta.piece.token_ids)
                    yield event(style.chunk(delta.piece, first=False))
            except ApiError as error:
                yield event(error.body())
                return
        if with_usage:
            yield event(style.usage_chunk(len(first.prompt_ids), tokens))
        yield "data: [DONE]\n\n"

    def _images(self, wanted: ChatRequest) -> list[Image.Image]:
        limit = int(self._settings.max_megapixels * 1e6)
        _, uris = wanted.conversation(None)
        try:
            return [decode_data_uri(uri, f"image {place}", limit) for place, uri in enumerate(uris, 1)]
        except ImageRefused as error:
            raise ApiError(400, str(error), "invalid_image", "messages") from None
