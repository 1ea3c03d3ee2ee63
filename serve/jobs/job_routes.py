"""OpenAI's routes for fine-tuning jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.orm import Session

from serve.chat import json_object, read_as
from serve.database.tables import Job, JobEvent, StoredFile, Weights
from serve.errors import ServiceError
from serve.jobs.file_routes import idempotency_key, page, retried
from serve.jobs.job_keeper import JobKeeper
from serve.jobs.jobs import Posted, add_job, checkpoint_body, described, event_body, new_job_id, own_job, want
from serve.jobs.recipes import job_recipe, recipe_text
from serve.jobs.requests import JobRequest
from serve.training.calls import Call, needs

router = APIRouter(prefix="/v1/fine_tuning/jobs")
ReadCall = Annotated[Call, needs("read")]
TrainCall = Annotated[Call, needs("train")]
Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=100)]


@router.post("")
async def create(call: TrainCall) -> dict[str, Any]:
    """Put a job in line; the same request sent again is the same job."""
    call.open()
    service, keeper = call.service, call.service.part(JobKeeper)
    body = await call.body()
    asked: JobRequest = read_as(JobRequest, json_object(body))
    if asked.model != service.base_name:
        raise ServiceError(
            404, f"there is no model {asked.model[:200]!r} to train: {service.base_name} is the base here",
            "model_not_found", "model",
        )  # fmt: skip
    posted = Posted(call.caller, asked, body, idempotency_key(call), retried(call))

    def look(session: Session) -> tuple[dict[str, Any] | None, StoredFile | None]:
        known = posted.known(session)
        return (described(known), None) if known is not None else (None, posted.file(session))

    known, file = await call.found(look)
    if known is not None:
        return dict(known)
    job_id = new_job_id()
    recipe = await asyncio.to_thread(
        job_recipe, service.recipe, service.base, job_id, keeper.root, Path(file.folder), asked, file.about["samples"]
    )

    def add(session: Session) -> dict[str, Any]:
        job = add_job(session, posted, job_id, recipe_text(recipe))
        call.note(session, "create_job", job.id)
        return described(job)

    made = await call.written(add)
    keeper.wake()
    return dict(made)


@router.get("")
async def listing(call: ReadCall, limit: Limit = 20, after: After = None) -> dict[str, Any]:
    """The tenant's jobs, newest first; `metadata[key]=value` leaves those that have it."""
    wanted = {
        key.removeprefix("metadata[").removesuffix("]"): value
        for key, value in call.request.query_params.items()
        if key.startswith("metadata[")
    }

    def find(session: Session) -> dict[str, Any]:
        own = select(Job).where(Job.tenant_id == call.tenant).order_by(Job.number.desc())
        if after is not None:
            own = own.where(Job.number < own_job(session, call.tenant, after).number)
        if not wanted:
            return page(session.scalars(own.limit(limit + 1)).all(), limit, described)
        fitting = [job for job in session.scalars(own.limit(2000)) if _has(job, wanted)]
        return page(fitting[: limit + 1], limit, described)

    return dict(await call.found(find))


@router.get("/{job_id}")
async def one(call: ReadCall, job_id: str) -> dict[str, Any]:
    """One job."""
    return dict(await call.found(lambda session: described(own_job(session, call.tenant, job_id))))


@router.post("/{job_id}/cancel")
async def cancel(call: TrainCall, job_id: str) -> dict[str, Any]:
    """End a job; what it left can still be asked."""
    return await _wanted(call, job_id, "cancel")


@router.post("/{job_id}/pause")
async def pause(call: TrainCall, job_id: str) -> dict[str, Any]:
    """Stop a job with a checkpoint."""
    return await _wanted(call, job_id, "pause")


@router.post("/{job_id}/resume")
async def resume(call: TrainCall, job_id: str) -> dict[str, Any]:
    """Let a paused job go on from its checkpoint."""
    return await _wanted(call, job_id, "run")


async def _wanted(call: Call, job_id: str, wanted: str) -> dict[str, Any]:
    call.open()

    def change(session: Session) -> dict[str, Any]:
        job = own_job(session, call.tenant, job_id)
        want(session, job, wanted)
        call.note(session, f"{wanted}_job", job_id)
        return described(job)

    changed = await call.written(change)
    call.service.part(JobKeeper).wake()
    return dict(changed)


@router.get("/{job_id}/events")
async def events(call: ReadCall, job_id: str, limit: Limit = 20, after: After = None) -> dict[str, Any]:
    """What happened to a job, newest first."""

    def find(session: Session) -> dict[str, Any]:
        own_job(session, call.tenant, job_id)
        own = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.number.desc())
        if after is not None:
            own = own.where(JobEvent.number < number_of(after, "ftevent-"))
        return page(session.scalars(own.limit(limit + 1)).all(), limit, event_body)

    return dict(await call.found(find))


@router.get("/{job_id}/checkpoints")
async def checkpoints(call: ReadCall, job_id: str, limit: Limit = 10, after: After = None) -> dict[str, Any]:
    """The models that a job left so far, newest first."""

    def find(session: Session) -> dict[str, Any]:
        job = own_job(session, call.tenant, job_id)
        own = select(Weights).where(Weights.model_id == job_id, Weights.tenant_id == call.tenant)
        if after is not None:
            own = own.where(Weights.number < number_of(after, "ftckpt-"))
        rows = [row for row in session.scalars(own.order_by(Weights.number.desc())) if not row.about.get("final")]
        return page(rows[: limit + 1], limit, lambda row: checkpoint_body(session, job, row))

    return dict(await call.found(find))


def number_of(name: str, prefix: str) -> int:
    """The number in an id.

    Raises:
        ServiceError: 400, it is none.
    """
    number = name.removeprefix(prefix)
    if not number.isdecimal() or len(number) > 18:
        raise ServiceError(400, f"after: {name[:60]!r} is no id of this list", "invalid_request", "after")
    return int(number)


def _has(job: Job, wanted: dict[str, str]) -> bool:
    metadata = job.asked.get("metadata") or {}
    return all(metadata.get(key) == value for key, value in wanted.items())
