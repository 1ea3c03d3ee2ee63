"""A tenant's models: adapters that clients train, with their checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import select

from serve.database.tables import Model, Weights
from serve.pages.visit import Visit, reads

router = APIRouter()
PAGE = 25
CHECKPOINTS = 5
"""The newest of each model that are shown."""


@router.get("/pages/models")
def models(visit: Annotated[Visit, reads()]) -> Response:
    """The newest first."""
    query = select(Model).where(Model.tenant_id == visit.who.tenant_id)
    if (after := visit.query("after")) is not None and after.isdigit() and len(after) < 19:
        query = query.where(Model.number < int(after))
    with visit.database.reading() as session:
        rows = session.scalars(query.order_by(Model.number.desc()).limit(PAGE + 1)).all()
        shown = [
            (model, session.scalars(select(Weights).where(Weights.model_id == model.id)
                                    .order_by(Weights.number.desc()).limit(CHECKPOINTS)).all())
            for model in rows[:PAGE]
        ]  # fmt: skip
    further = rows[PAGE - 1].number if len(rows) > PAGE else None
    return visit.page("models.html.j2", models=shown, further=further)
