"""`Futures`: requests as rows: taken once under their number, ended once with a result, found again after a restart.

A request is on disk before it is acknowledged. The same number with the same content is the same request; with another
content it is refused. Nothing here knows what a request means.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Image, Request
from serve.database.together import Together, Work
from serve.errors import ServiceError, UserError
from serve.operations.lease import LeaseHolder
from serve.tenants.keys import Caller
from serve.training.prompts import StoredImage

JSON = "application/json"
FRESH_S = 3600.0
"""How exactly the last use of an image is known."""
AT_ONCE = 500
"""Ids in one query."""


@dataclass(frozen=True)
class Submission:
    """What a client asks for under a number."""

    kind: str
    subject: str
    """The id of the model or sampler that the number belongs to."""
    seq: int
    fingerprint: str
    body: bytes
    learns: bool = False
    images: tuple[StoredImage, ...] = ()
    failure: str | None = None
    """Why it cannot be done, in a sentence: it takes its number all the same."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that is on disk."""

    id: str
    tenant_id: str
    subject: str
    seq: int
    kind: str
    state: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request."""

    media_type: str
    body: bytes


@dataclass(frozen=True)
class Done:
    """What a request gave: its result, and what must be written with it."""

    answer: Answer
    also: Work | None = None


class Futures:
    """All requests of a database."""

    def __init__(self, database: Database, lease: LeaseHolder) -> None:
        """Results are only written while `lease` is ours."""
        self.database, self._lease = database, lease
        self._together = Together(database)
        self._awaited: dict[str, set[asyncio.Future[Answer]]] = {}

    async def submit(self, caller: Caller, asked: Submission, check: Work | None = None) -> Taken:
        """Put a request on disk, or find the one that is there.

        Args:
            caller: whose it is.
            asked: what is wanted.
            check: runs in the transaction of a new request, before it is written; a `UserError` there becomes the
                request's result, a `ServiceError` refuses the call.

        Raises:
            ServiceError: 422, the number was used for something else.
        """
        taken: Taken = await self._together.write(lambda session: self._take(session, caller, asked, check))
        return taken

    def _take(self, session: Session, caller: Caller, asked: Submission, check: Work | None) -> Taken:
        request_id, now = f"{asked.subject}:{asked.seq}", time.time()
        known = session.execute(
            select(Request.kind, Request.state, Request.fingerprint, Request.tenant_id).where(
                Request.subject == asked.subject, Request.seq == asked.seq
            )
        ).one_or_none()
        subject, seq, tenant = asked.subject, asked.seq, caller.tenant_id
        if known is not None:
            if (known.fingerprint, known.tenant_id, known.kind) != (asked.fingerprint, tenant, asked.kind):
                raise ServiceError(
                    422, f"number {seq} of {subject} was already used for another request: the two differ; use the "
                    "next number, and one client for each model", "number_used",
                )  # fmt: skip
            return Taken(request_id, tenant, subject, seq, known.kind, known.state)
        failure = asked.failure
        if failure is None and check is not None:
            try:
                check(session)
            except UserError as error:
                failure = str(error)
        done = failure is not None
        self._keep_images(session, asked.images, now)
        state = "failed" if done else "queued"
        values: dict[str, Any] = {
            "id": request_id, "tenant_id": tenant, "subject": subject, "seq": seq, "kind": asked.kind,
            "fingerprint": asked.fingerprint, "learns": asked.learns, "asked_at": now, "state": state,
            "body": None if done else asked.body, "media_type": JSON if done else None,
            "answer": failed(failure or "", "user").body if done else None, "ended_at": now if done else None,
        }  # fmt: skip
        session.execute(insert(Request).values(values))
        return Taken(request_id, tenant, subject, seq, asked.kind, state)

    def _keep_images(self, session: Session, images: tuple[StoredImage, ...], now: float) -> None:
        digests = sorted({image.digest for image in images})
        if not digests:
            return
        rows = session.execute(select(Image.digest, Image.used_at).where(Image.digest.in_(digests)))
        known = {row.digest: row.used_at for row in rows}
        if stale := [digest for digest, used_at in known.items() if used_at < now - FRESH_S]:
            session.execute(update(Image).where(Image.digest.in_(stale)).values(used_at=now))
        new = {image.digest: image for image in images if image.digest not in known}
        if new:
            dialect: Any = sqlite if self.database.kind == "sqlite" else postgresql
            rows_of = [
                {"digest": one.digest, "data": one.data, "width": one.width, "height": one.height, "used_at": now}
                for one in sorted(new.values(), key=lambda one: one.digest)
            ]
            session.execute(dialect.insert(Image).on_conflict_do_nothing(), rows_of)

    async def end(self, request_id: str, answer: Answer, *, failed: bool, also: Work | None = None) -> None:
        """Write a result, with what else must be true from then on, in one transaction; once.

        Raises:
            LeaseLost: another server works here now.
        """
        values = {"state": "failed" if failed else "done", "media_type": answer.media_type, "answer": answer.body}

        def write(session: Session) -> None:
            self._lease.check(session)
            mine = update(Request).where(Request.id == request_id, Request.state == "queued")
            ended = session.execute(mine.values(**values, ended_at=time.time()))
            if ended.rowcount and also is not None:  # type: ignore[attr-defined]  # of every UPDATE
                also(session)

        await self._together.write(write)
        for waiting in self._awaited.pop(request_id, set()):
            if not waiting.done():
                waiting.set_result(answer)

    def answer(self, caller: Caller, request_id: str) -> Answer | None:
        """The result of a request; None while there is none.

        Raises:
            ServiceError: 404, there is no such request of this tenant; 410, its result is no longer kept.
        """
        with self.database.reading() as session:
            row = session.execute(
                select(Request.tenant_id, Request.state, Request.media_type, Request.answer).where(
                    Request.id == request_id
                )
            ).one_or_none()
        if row is None or row.tenant_id != caller.tenant_id:
            raise ServiceError(
                404, f"there is no request {request_id[:200]!r}: ask for what a call returned", "no_request"
            )
        if row.state == "queued":
            return None
        if row.answer is None:
            raise ServiceError(
                410, f"the result of {request_id} is no longer kept (serve.training.answer_days)", "gone"
            )
        return Answer(row.media_type, row.answer)

    async def awaited(self, caller: Caller, request_id: str, seconds: float) -> Answer | None:
        """As `answer`, after waiting up to some seconds for it."""
        mine: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(request_id, set()).add(mine)
        try:
            if (answer := await asyncio.to_thread(self.answer, caller, request_id)) is not None:
                return answer
            try:
                return await asyncio.wait_for(mine, seconds)
            except TimeoutError:
                return None
        finally:
            waiting = self._awaited.get(request_id, set())
            waiting.discard(mine)
            if not waiting:
                self._awaited.pop(request_id, None)

    def queued(self, kinds: tuple[str, ...]) -> list[Taken]:
        """All requests of some kinds that have no result yet, oldest first."""
        with self.database.reading() as session:
            rows = session.execute(
                select(Request.id, Request.tenant_id, Request.subject, Request.seq, Request.kind, Request.state)
                .where(Request.state == "queued", Request.kind.in_(kinds))
                .order_by(Request.number)
            ).all()
        return [Taken(*row) for row in rows]

    def bodies(self, request_ids: Sequence[str]) -> dict[str, bytes]:
        """What some requests ask for, by id, of those that have no result yet."""
        found = dict[str, bytes]()
        with self.database.reading() as session:
            for first in range(0, len(request_ids), AT_ONCE):
                some = request_ids[first : first + AT_ONCE]
                rows = session.execute(
                    select(Request.id, Request.body).where(Request.id.in_(some), Request.state == "queued")
                )
                found.update((row.id, row.body) for row in rows)
        return found


def succeeded(result: dict[str, Any]) -> Answer:
    """A result in JSON."""
    return Answer(JSON, json.dumps(result).encode())


def failed(sentence: str, category: str) -> Answer:
    """A result that is an error; the category is `user` or `server`."""
    return Answer(JSON, json.dumps({"error": sentence, "category": category}).encode())
