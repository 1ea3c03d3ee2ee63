"""`PageDoor`: what every request to a page passes first: its size, where it comes from, and the headers of its answer.

Plain ASGI, so that no page can be added that it does not guard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

AREAS = ("/pages", "/rate")
"""First parts of the paths that are pages."""
UPLOADS = ("/pages/rating/sets",)
"""Forms that may carry a file."""
FORM_BYTES = 65_536
BODY_S = 60.0
MIB = 2**20
HEADERS = (
    (b"content-security-policy", b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
     b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


class PageDoor:
    """The outermost layer of the pages; what is no page goes on to the API."""

    def __init__(self, app: Any, pages: Any, max_upload_mib: float) -> None:
        """Guard `pages`, and pass everything else to `app`."""
        self._app, self._pages, self._max_upload = app, pages, int(max_upload_mib * MIB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path = str(scope.get("path", ""))
        if scope["type"] != "http" or not (path == "/" or path.startswith(tuple(f"{area}/" for area in AREAS))
                                           or path in AREAS):  # fmt: skip
            await self._app(scope, receive, send)
            return

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", []))
                if not any(name == b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-store"))
                message["headers"] = [*given, *HEADERS]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in ("GET", "HEAD") and (fault := foreign(headers)):
            await _refuse(sending, 403, fault)
            return
        limit = self._max_upload if path in UPLOADS else FORM_BYTES
        try:
            if scope["method"] not in ("GET", "HEAD"):
                receive = await _read(receive, headers.get("content-length", ""), limit)
        except _TooLarge:
            await _refuse(sending, 413, f"This form is larger than {limit:,} bytes: send less.")
            return
        except TimeoutError:
            await _refuse(sending, 408, "This form did not arrive in time: send it again.")
            return
        await self._pages(scope, receive, sending)


def foreign(headers: dict[str, str]) -> str | None:
    """Why a form does not come from a page of ours, or None. Browsers say where a form comes from; other clients,
    which hold no cookies, need not.
    """
    site, origin, host = headers.get("sec-fetch-site", ""), headers.get("origin", ""), headers.get("host", "")
    if site not in ("", "same-origin", "none") or (origin and urlsplit(origin).netloc != host):
        return "This form was sent from another site: nothing was done."
    return None


class _TooLarge(Exception):
    pass


async def _read(receive: Receive, length: str, limit: int) -> Receive:
    """The whole body, for who reads it next."""
    if length.isdigit() and int(length) > limit:
        raise _TooLarge
    pieces, size = list[bytes](), 0
    async with asyncio.timeout(BODY_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit:
                raise _TooLarge
            if not message.get("more_body"):
                break
    waiting = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

    async def replay() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return replay


async def _refuse(send: Send, status: int, sentence: str) -> None:
    """Answer before any page is asked: plain text, since nothing of the form was read."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
