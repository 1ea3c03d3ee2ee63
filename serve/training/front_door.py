"""`FrontDoor`: what every call passes before a route sees it: its id, key, rate, size and compression.

Plain ASGI around the application, so that no route can be added that it does not guard. Only `OPEN` needs no key.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import zstandard

from serve.errors import ServiceError
from serve.operations.logs import REQUEST_ID, new_request_id, tell
from serve.tenants.keys import Caller
from serve.training.service import TrainingService

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/health", "/healthz", "/readyz", "/api/v1/healthz")
"""Answered without a key: whether the service lives, and nothing else."""
EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
UPLOAD = ("POST", "/v1/files")
PAUSE_S = 60.0
"""Longest pause in a file that arrives."""
MIB = 2**20
GIVEN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
SLOW_S = 1.0
QUIET = ("/api/v1/retrieve_future",)
"""Calls that are held on purpose."""


class FrontDoor:
    """The outermost layer of the application."""

    def __init__(self, app: Any, service: TrainingService) -> None:
        """Guard `app`."""
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if GIVEN_ID.fullmatch(given) else new_request_id()
        token, began, status = REQUEST_ID.set(request_id), time.monotonic(), [0]

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            scope.setdefault("state", {})
            scope["state"]["request_id"] = request_id
            if scope["path"] not in OPEN:
                scope["state"]["caller"] = await self._caller(headers)
                receive = await self._received(scope, headers, receive)
            await self._app(scope, receive, sending)
        except ServiceError as error:
            await answer_error(sending, error, scope["path"], request_id)
        finally:
            REQUEST_ID.reset(token)
            self._count(scope, status[0], time.monotonic() - began, request_id)

    async def _caller(self, headers: dict[str, str]) -> Caller:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        key = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        if not key or len(key) > 400:
            raise ServiceError(
                401,
                "send an API key in the X-API-Key header, or as a bearer token (python -m serve.manage key makes one)",
                "no_key",
            )
        caller = self._service.keys.known(key)
        if caller is None:
            caller = await asyncio.to_thread(self._service.keys.caller, key)
        self._service.rates.take(caller.tenant_id, caller.quotas.requests_per_minute)
        return caller

    async def _received(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        """The body, read within bounds; a file is too large for that, and is bounded as it arrives."""
        if (scope["method"], scope["path"]) == UPLOAD:
            return bounded(receive, int(self._service.settings.jobs.max_file_mib * MIB) + MIB)
        return replayed(await self._body(headers, receive), receive)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The whole body, decompressed.

        Raises:
            ServiceError: it is too large, or too slow, or not compressed as it says.
        """
        settings = self._service.settings
        limit = int(settings.max_body_mib * MIB)
        too_large = ServiceError(
            413, f"the body is larger than {settings.max_body_mib:g} MiB (serve.max_body_mib)", "large"
        )
        if (length := headers.get("content-length", "")).isdigit() and int(length) > limit:
            raise too_large
        pieces, size = list[bytes](), 0
        try:
            async with asyncio.timeout(settings.timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ServiceError(400, "the client went away", "gone")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > limit:
                        raise too_large
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise ServiceError(400, f"the body did not arrive within {settings.timeout_s:g} s", "slow") from None
        body, coding = b"".join(pieces), headers.get("content-encoding", "identity").lower()
        if coding == "identity":
            return body
        if coding != "zstd":
            raise ServiceError(
                415, f"content-encoding {coding[:40]!r} is not served: send zstd, or none", "bad_encoding"
            )
        try:
            with zstandard.ZstdDecompressor().stream_reader(body) as reader:
                whole: bytes = reader.read(limit + 1)  # a small body may unpack to any size
        except zstandard.ZstdError:
            raise ServiceError(400, "the body is not valid zstd", "bad_encoding") from None
        if len(whole) > limit:
            raise too_large
        return whole

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._service.metrics.calls.labels(route, str(status)).inc()
        self._service.metrics.call_seconds.labels(route).observe(seconds)
        if status >= 500 or (seconds > SLOW_S and route not in QUIET):
            tell("call", level=30, route=route, status=status, seconds=round(seconds, 3), request_id=request_id)


def bounded(receive: Receive, limit: int) -> Receive:
    """A body that is read as it arrives, up to a size, and without long pauses."""
    size, ended = 0, False

    async def more() -> MutableMapping[str, Any]:
        nonlocal size, ended
        if ended:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), PAUSE_S)
        except TimeoutError:
            raise ServiceError(400, f"nothing arrived of the body for {PAUSE_S:g} s", "slow") from None
        if message["type"] == "http.disconnect":
            raise ServiceError(400, "the client went away", "gone")
        size += len(message.get("body", b""))
        ended = not message.get("more_body")
        if size > limit:
            allowed = limit / MIB - 1
            raise ServiceError(413, f"the file is larger than {allowed:g} MiB (serve.jobs.max_file_mib)", "large")
        return message

    return more


def replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, for who reads it next; then what the connection says, such as that the client left."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


async def answer_error(send: Send, error: ServiceError, path: str, request_id: str) -> None:
    """Answer with an error's status and JSON."""
    headers = [(b"content-type", b"application/json")]
    headers += [(name.encode(), value.encode()) for name, value in error.headers().items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error.body_for(path, request_id)).encode()})
