"""`Call`: one call as a route sees it: who asks, the service, and the ways in which most routes answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from serve.database.tables import ClientSession, Model, Sampler
from serve.errors import ServiceError
from serve.tenants.audit import record
from serve.tenants.keys import Caller, Scope
from serve.training.futures import Submission, Taken, Work
from serve.training.service import TrainingService


class Call:
    """Made for every call by `needs`."""

    def __init__(self, request: Request) -> None:
        """Read what the front door found out."""
        self.request = request
        self.service: TrainingService = request.app.state.service
        self.caller: Caller = request.state.caller
        self.request_id: str = request.state.request_id

    @property
    def tenant(self) -> str:
        """The id of who asks."""
        return self.caller.tenant_id

    async def body(self) -> bytes:
        """The body, within the limits of the front door."""
        return await self.request.body()

    async def written(self, work: Callable[[Session], Any]) -> Any:
        """Do something in a transaction of its own, in a thread; its result."""

        def do() -> Any:
            with self.service.database.writing() as session:
                return work(session)

        return await asyncio.to_thread(do)

    async def found(self, work: Callable[[Session], Any]) -> Any:
        """Read something in a transaction of its own, in a thread."""

        def do() -> Any:
            with self.service.database.reading() as session:
                return work(session)

        return await asyncio.to_thread(do)

    def note(self, session: Session, action: str, subject: str, outcome: str = "done") -> None:
        """Add an entry to the audit log."""
        caller = self.caller
        record(session, action, subject, tenant_id=caller.tenant_id, key_name=caller.key_name,
               request_id=self.request_id, outcome=outcome)  # fmt: skip

    def open(self) -> None:
        """Refuse new work while the server starts or ends; clients come back by themselves.

        Raises:
            ServiceError: 503.
        """
        health = self.service.health
        if health.draining or not health.ready:
            raise ServiceError(503, f"{health.why}: the call may be sent again", "not_ready", retry_after_s=1)

    async def submitted(self, asked: Submission, check: Work | None = None) -> Taken:
        """Put a request on disk, and in line."""
        self.open()
        self._check_queue(asked)

        def noted(session: Session) -> None:
            if check is not None:
                check(session)
            if asked.kind not in ("forward_backward", "optim_step", "asample"):
                self.note(session, asked.kind, asked.subject)

        taken = await self.service.futures.submit(self.caller, asked, noted)
        if asked.kind == "asample":
            self.service.sampling.arrived(taken)
        else:
            await self.service.training.arrived(taken)
        return taken

    def _check_queue(self, asked: Submission) -> None:
        queue = self.service.sampling.open if asked.kind == "asample" else len(self.service.training)
        limit = self.service.settings.training.max_queued
        if queue >= limit:
            raise ServiceError(
                429, f"{queue} requests wait already (serve.training.max_queued): try again", "busy", retry_after_s=1
            )

    def own_session(self, session: Session, session_id: str) -> ClientSession:
        """A session of the caller's.

        Raises:
            ServiceError: 404.
        """
        found = session.get(ClientSession, session_id)
        if found is None or found.tenant_id != self.tenant:
            raise ServiceError(404, f"there is no session {session_id[:100]!r}: create one", "no_session")
        return found

    def own_model(self, session: Session, model_id: str) -> Model:
        """A model of the caller's.

        Raises:
            ServiceError: 404.
        """
        found = session.scalar(select(Model).where(Model.id == model_id))
        if found is None or found.tenant_id != self.tenant:
            raise ServiceError(404, f"there is no model {model_id[:200]!r}: create one", "no_model")
        return found

    def own_sampler(self, session: Session, sampler_id: str) -> Sampler:
        """A sampler of the caller's.

        Raises:
            ServiceError: 404.
        """
        found = session.get(Sampler, sampler_id)
        if found is None or found.tenant_id != self.tenant:
            raise ServiceError(404, f"there is no sampler {sampler_id[:200]!r}: create one", "no_sampler")
        return found


def needs(scope: Scope | None) -> Any:
    """The dependency of a route: its call, by a key that has the scope; None: any key has.

    Every route takes one (`tests/unit/test_training_attacks.py` walks them all).
    """

    def call(request: Request) -> Call:
        made = Call(request)
        if scope is not None and scope not in made.caller.scopes:
            raise ServiceError(403, f"this key lacks the scope {scope!r}: use one that has it", "no_scope")
        return made

    call.needs_scope = scope  # type: ignore[attr-defined]  # what the walk looks for
    return Depends(call)
