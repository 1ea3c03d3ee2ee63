"""Which models a tenant may talk to: the base, and the adapters that it trained, by their names.

An adapter is a row of weights for samplers, whether it is a Tinker client's checkpoint or a job's. Its number and
its folder are its own for ever, so engines keep adapters by the number, and let go of the one that was idle longest.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from actors.rollout.adapter_folder import AdapterFolder
from serve.database.tables import Weights
from serve.errors import ServiceError


def adapter_of(session: Session, tenant_id: str, base_name: str, model: str) -> AdapterFolder | None:
    """The adapter that a name stands for; None: the base alone.

    Raises:
        ServiceError: 404, the tenant has no such model.
    """
    if model == base_name:
        return None
    row = own_model(session, tenant_id, model)
    return AdapterFolder(row.number, row.folder)


def own_model(session: Session, tenant_id: str, model: str) -> Weights:
    """The weights that a tenant calls so.

    Raises:
        ServiceError: 404.
    """
    row = session.scalar(
        select(Weights).where(
            Weights.tenant_id == tenant_id,
            Weights.kind == "sampler",
            or_(Weights.name == model, Weights.path == model),
        )
    )
    if row is None or (row.expires_at is not None and row.expires_at < time.time()):
        raise ServiceError(
            404, f"there is no model {model[:200]!r}: GET /v1/models lists yours", "model_not_found", "model"
        )
    return row


def listed(session: Session, tenant_id: str, base_name: str) -> list[dict[str, Any]]:
    """All models of a tenant, as OpenAI's clients read them; the base first, then the newest."""
    rows = session.scalars(
        select(Weights)
        .where(Weights.tenant_id == tenant_id, Weights.kind == "sampler", Weights.named)
        .order_by(Weights.number.desc())
        .limit(1000)
    )
    return [base_entry(base_name), *map(entry, rows)]


def entry(row: Weights) -> dict[str, Any]:
    """A model as OpenAI's clients read it."""
    return {"id": row.name or row.path, "object": "model", "created": int(row.created_at), "owned_by": row.tenant_id}


def base_entry(base_name: str) -> dict[str, Any]:
    """The base model, likewise."""
    return {"id": base_name, "object": "model", "created": 0, "owned_by": "system"}
