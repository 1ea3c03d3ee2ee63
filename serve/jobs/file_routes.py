"""OpenAI's routes for files."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serve.database.tables import StoredFile
from serve.errors import ServiceError
from serve.jobs.files import Files, described, own_file, refuse_in_use
from serve.jobs.uploads import RAW
from serve.training.calls import Call, needs

router = APIRouter(prefix="/v1/files")
ReadCall = Annotated[Call, needs("read")]
TrainCall = Annotated[Call, needs("train")]
CHUNK = 2**20
FIELDS = 16
"""Fields that a form may have."""


@router.post("")
async def upload(call: TrainCall) -> dict[str, Any]:
    """Take a file, check every line of it, and keep it."""
    call.open()
    files = call.service.part(Files)
    folder = await asyncio.to_thread(files.draft)
    try:
        name, purpose = await _received(call, folder)
        again = retried(call)
        row = await asyncio.to_thread(
            files.keep, call.caller, folder, name, purpose, idempotency_key(call), again=again
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    await call.written(lambda session: call.note(session, "upload_file", row.id))
    return described(row)


async def _received(call: Call, folder: Path) -> tuple[str, str]:
    """Write the file of a form into a folder; its name and purpose."""
    try:
        form = await call.request.form(max_files=1, max_fields=FIELDS)
    except HTTPException as error:
        raise ServiceError(400, f"this is no form with a file: {error.detail}", "invalid_form") from None
    async with AsyncExitStack() as closing:
        closing.push_async_callback(form.close)
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise ServiceError(400, "file: send multipart/form-data with a file named so", "invalid_request", "file")
        if not isinstance(purpose, str):
            raise ServiceError(400, "purpose: say fine-tune", "invalid_request", "purpose")
        with (folder / RAW).open("wb") as kept:
            while piece := await file.read(CHUNK):
                await asyncio.to_thread(kept.write, piece)
        return file.filename or "file.jsonl", purpose


@router.get("")
async def listing(
    call: ReadCall,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    after: Annotated[str | None, Query(max_length=100)] = None,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    purpose: Annotated[str | None, Query(max_length=40)] = None,
) -> dict[str, Any]:
    """The tenant's files."""

    def find(session: Session) -> dict[str, Any]:
        own = select(StoredFile).where(StoredFile.tenant_id == call.tenant)
        if purpose is not None:
            own = own.where(StoredFile.purpose == purpose)
        if after is not None:
            number = own_file(session, call.tenant, after, "after").number
            own = own.where(StoredFile.number > number if order == "asc" else StoredFile.number < number)
        ordered = own.order_by(StoredFile.number if order == "asc" else StoredFile.number.desc())
        return page(session.scalars(ordered.limit(limit + 1)).all(), limit, described)

    return dict(await call.found(find))


@router.get("/{file_id}")
async def one(call: ReadCall, file_id: str) -> dict[str, Any]:
    """One file."""
    return dict(await call.found(lambda session: described(own_file(session, call.tenant, file_id))))


@router.get("/{file_id}/content")
async def content(call: ReadCall, file_id: str) -> Response:
    """A file as it was uploaded."""
    folder: str = await call.found(lambda session: own_file(session, call.tenant, file_id).folder)
    # A file of a client's is never shown as a page.
    headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
    return FileResponse(Path(folder, RAW), media_type="application/jsonl", headers=headers)


@router.delete("/{file_id}")
async def delete(call: TrainCall, file_id: str) -> dict[str, Any]:
    """Remove a file that no job needs any more."""

    def remove(session: Session) -> str:
        row = own_file(session, call.tenant, file_id)
        refuse_in_use(session, row)
        session.delete(row)
        call.note(session, "delete_file", file_id)
        return row.folder

    folder = await call.written(remove)
    await asyncio.to_thread(shutil.rmtree, folder, True)
    return {"id": file_id, "object": "file", "deleted": True}


def idempotency_key(call: Call) -> str | None:
    """What the client gave to know its request by.

    Raises:
        ServiceError: 400, it is too long.
    """
    given = call.request.headers.get("idempotency-key")
    if given is not None and not 0 < len(given) <= 200:
        raise ServiceError(400, "Idempotency-Key: 1 to 200 characters", "invalid_request", "Idempotency-Key")
    return given


def retried(call: Call) -> bool:
    """Whether the client says that it asks once more: openai's sends no key, but counts its attempts."""
    return call.request.headers.get("x-stainless-retry-count", "0") not in ("", "0")


def page(rows: Any, limit: int, described: Any) -> dict[str, Any]:
    """OpenAI's page of a list; `rows` holds one more than fits where there are more."""
    data = [described(row) for row in rows[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": len(rows) > limit}
