"""The HTTP endpoint of a policy as a Ray Serve deployment: its key, caps, errors in OpenAI's form, streaming."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import uuid
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from starlette.exceptions import HTTPException

from recipe import Recipe
from serve.answering import Answering
from serve.engine import PolicyEngine
from serve.errors import ServiceError

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MIB = 2**20

api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@api.exception_handler(ServiceError)
async def _refused(_: Request, error: ServiceError) -> JSONResponse:
    return JSONResponse(error.openai_body(), error.status, error.headers())


@api.exception_handler(HTTPException)
async def _no_such_route(request: Request, error: HTTPException) -> JSONResponse:
    refusal = ServiceError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    return JSONResponse(refusal.openai_body(), error.status_code, error.headers)


@api.exception_handler(Exception)
async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Starlette raises the error again after this answer, so that the replica's log holds it."""
    failure = ServiceError(500, f"the server failed on this request ({type(error).__name__}); its log says why")
    return JSONResponse(failure.openai_body(), 500)


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
        self._engine = PolicyEngine(Path(policy_folder), recipe)
        self._answering = Answering(recipe, self._engine.reader)

    def __del__(self) -> None:
        """Ray Serve calls this when it stops the replica."""
        if hasattr(self, "_engine"):
            self._engine.close()
        if hasattr(self, "_answering"):
            self._answering.close()

    async def check_health(self) -> None:
        """Ray Serve asks this from time to time and replaces a replica whose engine process is gone."""
        await self._engine.check()

    @api.get("/health")
    @api.get("/healthz")
    async def healthz(self) -> dict[str, str]:
        """Whether the engine lives; needs no key and tells nothing else."""
        await self._engine.check()
        return {"status": "ok"}

    @api.get("/v1/models")
    async def models(self, request: Request) -> dict[str, Any]:
        """The one model that is served: the run's name."""
        self._authorise(request)
        return {"object": "list", "data": [self._described()]}

    @api.get("/v1/models/{name:path}")
    async def model(self, request: Request, name: str) -> dict[str, Any]:
        """One model."""
        self._authorise(request)
        self._check_model(name)
        return self._described()

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        """Answer a conversation with images; whole, or streamed as server-sent events."""
        arrived = asyncio.get_running_loop().time()
        self._authorise(request)
        wanted = await self._answering.parsed(await self._body(request))
        self._check_model(wanted.model)
        who = request.client.host if request.client else ""
        return await self._answering.respond(who, wanted, f"chatcmpl-{uuid.uuid4().hex}", self._engine, arrived)

    @api.api_route("/v1/{path:path}", methods=EVERY_METHOD)
    async def unknown(self, request: Request, path: str) -> Response:
        """Anything else below /v1: refused without a key like everything there, unknown with one."""
        self._authorise(request)
        raise ServiceError(404, f"there is no {request.method} /v1/{path} here", "unknown_url")

    def _described(self) -> dict[str, Any]:
        return {"id": self._model, "object": "model", "created": 0, "owned_by": "autodriverl"}

    def _check_model(self, name: str) -> None:
        if name != self._model:
            raise ServiceError(
                404, f"model {name[:200]!r} is not served here, {self._model!r} is", "model_not_found", "model"
            )

    def _authorise(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key_digest(key), self._digest):
            raise ServiceError(401, "missing or wrong bearer key", "invalid_api_key")

    async def _body(self, request: Request) -> bytes:
        settings = self._settings
        body = bytearray()
        try:
            async with asyncio.timeout(settings.timeout_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > settings.max_body_mib * MIB:
                        raise ServiceError(413, f"the request body is larger than {settings.max_body_mib:g} MiB")
        except TimeoutError:
            raise ServiceError(408, f"the request body did not arrive within {settings.timeout_s:g} s") from None
        return bytes(body)
