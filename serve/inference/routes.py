"""OpenAI's routes for models and chat."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from serve.errors import ServiceError
from serve.inference.inference import Inference
from serve.inference.models import base_entry, entry, listed, own_model
from serve.training.calls import Call, needs
from serve.training.places import remove

router = APIRouter(prefix="/v1")
ReadCall = Annotated[Call, needs("read")]
TrainCall = Annotated[Call, needs("train")]
SampleCall = Annotated[Call, needs("sample")]


@router.post("/chat/completions")
async def chat(call: SampleCall) -> Response:
    """Answer a conversation with images; whole, or streamed as server-sent events."""
    arrived = asyncio.get_running_loop().time()
    call.open()
    inference = call.service.part(Inference)
    wanted = await inference.answering.parsed(await call.body())
    return await inference.respond(call.caller, wanted, f"chatcmpl-{uuid.uuid4().hex}", arrived)


@router.get("/models")
async def models(call: ReadCall) -> dict[str, Any]:
    """The base, and the tenant's own."""
    name = call.service.base_name
    return {"object": "list", "data": await call.found(lambda session: listed(session, call.tenant, name))}


@router.get("/models/{model:path}")
async def model(call: ReadCall, model: str) -> dict[str, Any]:
    """One model."""
    if model == call.service.base_name:
        return base_entry(model)
    return dict(await call.found(lambda session: entry(own_model(session, call.tenant, model))))


@router.delete("/models/{model:path}")
async def delete_model(call: TrainCall, model: str) -> dict[str, Any]:
    """Remove a model of the tenant's."""
    if model == call.service.base_name:
        raise ServiceError(403, "the base model is everybody's: it cannot be deleted", "not_yours", "model")

    def delete(session: Session) -> str:
        row = own_model(session, call.tenant, model)
        session.delete(row)
        call.note(session, "delete_model", model)
        return row.folder

    folder = await call.written(delete)
    await asyncio.to_thread(remove, Path(folder))
    return {"id": model, "object": "model", "deleted": True}
