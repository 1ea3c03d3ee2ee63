"""Tinker's routes that list and delete: sessions, training runs, checkpoints. A tenant sees its own alone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.database.tables import ClientSession, Model, Sampler, Weights
from serve.errors import ServiceError
from serve.training import submissions
from serve.training.calls import Call, needs
from serve.training.messages import Ttl, WeightsInfo
from serve.training.places import remove

router = APIRouter(prefix="/api/v1")
ReadCall = Annotated[Call, needs("read")]
TrainCall = Annotated[Call, needs("train")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=2**31)]


def moment(seconds: float | None) -> str | None:
    """A time as the client reads it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def described(row: Weights) -> dict[str, Any]:
    """A checkpoint as the client reads it."""
    return {
        "checkpoint_id": "/".join(row.path.rsplit("/", 2)[1:]),
        "checkpoint_type": row.kind,
        "time": moment(row.created_at),
        "tinker_path": row.path,
        "size_bytes": row.bytes,
        "public": False,
        "user_metadata": row.about or None,
        "expires_at": moment(row.expires_at),
    }


def run_of(session: Session, model: Model) -> dict[str, Any]:
    """A training run as the client reads it."""
    newest: dict[str, Any] = {}
    for kind in ("training", "sampler"):
        row = session.scalar(
            select(Weights)
            .where(Weights.model_id == model.id, Weights.kind == kind, Weights.named)
            .order_by(Weights.number.desc())
            .limit(1)
        )
        newest[kind] = None if row is None else described(row)
    return {
        "training_run_id": model.id,
        "base_model": model.base_model,
        "model_owner": model.tenant_id,
        "is_lora": True,
        "lora_rank": model.settings["rank"],
        "corrupted": model.state == "failed",
        "last_request_time": moment(model.asked_at),
        "last_checkpoint": newest["training"],
        "last_sampler_checkpoint": newest["sampler"],
        "user_metadata": {key: str(value) for key, value in model.about.items()} or None,
    }


def page(offset: int, limit: int, total: int) -> dict[str, int]:
    """Where a page lies."""
    return {"offset": offset, "limit": limit, "total_count": total}


@router.get("/training_runs")
async def training_runs(call: ReadCall, limit: Limit = 20, offset: Offset = 0) -> dict[str, Any]:
    """The tenant's models, newest first."""

    def find(session: Session) -> dict[str, Any]:
        own = select(Model).where(Model.tenant_id == call.tenant)
        total = session.scalar(select(func.count()).select_from(own.subquery())) or 0
        rows = session.scalars(own.order_by(Model.number.desc()).offset(offset).limit(limit)).all()
        return {"training_runs": [run_of(session, row) for row in rows], "cursor": page(offset, limit, total)}

    return dict(await call.found(find))


@router.get("/training_runs/{model_id}")
async def training_run(call: ReadCall, model_id: str) -> dict[str, Any]:
    """One model."""
    return dict(await call.found(lambda session: run_of(session, call.own_model(session, model_id))))


@router.get("/training_runs/{model_id}/checkpoints")
async def checkpoints_of(call: ReadCall, model_id: str) -> dict[str, Any]:
    """One model's named checkpoints, oldest first."""

    def find(session: Session) -> list[dict[str, Any]]:
        call.own_model(session, model_id)
        rows = session.scalars(
            select(Weights).where(Weights.model_id == model_id, Weights.named).order_by(Weights.number)
        )
        return [described(row) for row in rows]

    return {"checkpoints": await call.found(find)}


@router.get("/checkpoints")
async def checkpoints(call: ReadCall, limit: Limit = 100, offset: Offset = 0) -> dict[str, Any]:
    """The tenant's named checkpoints, newest first."""

    def find(session: Session) -> dict[str, Any]:
        own = select(Weights).where(Weights.tenant_id == call.tenant, Weights.named)
        total = session.scalar(select(func.count()).select_from(own.subquery())) or 0
        rows = session.scalars(own.order_by(Weights.number.desc()).offset(offset).limit(limit)).all()
        return {"checkpoints": [described(row) for row in rows], "cursor": page(offset, limit, total)}

    return dict(await call.found(find))


def own_weights(call: Call, session: Session, path: str) -> Weights:
    """A checkpoint of the caller's.

    Raises:
        ServiceError: 404.
    """
    found = session.scalar(select(Weights).where(Weights.path == path, Weights.tenant_id == call.tenant))
    if found is None:
        raise ServiceError(404, f"there are no weights at {path[:300]}: list your checkpoints", "no_weights")
    return found


@router.delete("/training_runs/{model_id}/checkpoints/{checkpoint_id:path}", status_code=204)
async def delete_checkpoint(call: TrainCall, model_id: str, checkpoint_id: str) -> Response:
    """Remove a checkpoint; samplers of it end."""

    def delete(session: Session) -> str:
        row = own_weights(call, session, f"tinker://{model_id}/{checkpoint_id}")
        session.delete(row)
        call.note(session, "delete_checkpoint", row.path)
        return row.folder

    folder = await call.written(delete)
    await asyncio.to_thread(remove, Path(folder))
    return Response(status_code=204)


@router.put("/training_runs/{model_id}/checkpoints/{checkpoint_id:path}/ttl", status_code=204)
async def set_ttl(call: TrainCall, model_id: str, checkpoint_id: str) -> Response:
    """Say how long a checkpoint is kept from now on."""
    asked: Ttl = submissions.read(Ttl, submissions.object_of(await call.body()))

    def keep(session: Session) -> None:
        row = own_weights(call, session, f"tinker://{model_id}/{checkpoint_id}")
        row.expires_at = None if asked.ttl_seconds is None else time.time() + asked.ttl_seconds
        call.note(session, "set_ttl", row.path, f"{asked.ttl_seconds} s")

    await call.written(keep)
    return Response(status_code=204)


@router.post("/weights_info")
async def weights_info(call: ReadCall) -> dict[str, Any]:
    """What is needed to load a checkpoint."""
    asked: WeightsInfo = submissions.read(WeightsInfo, submissions.object_of(await call.body()))
    row: Weights = await call.found(lambda session: own_weights(call, session, asked.tinker_path))
    targets = row.settings["targets"]
    return {
        "base_model": call.service.base_name,
        "is_lora": True,
        "lora_rank": row.settings["rank"],
        "train_unembed": False,
        "train_mlp": "mlp" in targets,
        "train_attn": "attention" in targets,
    }


@router.get("/sessions")
async def sessions(call: ReadCall, limit: Limit = 20, offset: Offset = 0) -> dict[str, Any]:
    """The tenant's sessions, newest first."""

    def find(session: Session) -> list[str]:
        own = select(ClientSession.id).where(ClientSession.tenant_id == call.tenant)
        return list(session.scalars(own.order_by(ClientSession.created_at.desc()).offset(offset).limit(limit)))

    return {"sessions": await call.found(find)}


@router.get("/sessions/{session_id}")
async def session_info(call: ReadCall, session_id: str) -> dict[str, Any]:
    """What a session made."""

    def find(session: Session) -> dict[str, Any]:
        found = call.own_session(session, session_id)
        return {
            "training_run_ids": list(session.scalars(select(Model.id).where(Model.session_id == session_id))),
            "sampler_ids": list(session.scalars(select(Sampler.id).where(Sampler.session_id == session_id))),
            "user_metadata": {k: str(v) for k, v in (found.about.get("user_metadata") or {}).items()} or None,
            "display_name": found.about.get("display_name"),
        }

    return dict(await call.found(find))
