"""A tenant's fine-tuning jobs: where each stands, what happened to it, and the curves of its run.

The tables are looked up by name: a service without jobs has none, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import select

from serve.database.tables import Base
from serve.errors import ServiceError
from serve.pages.places import own_run
from serve.pages.runs import curves_page
from serve.pages.visit import Visit, reads

router = APIRouter()
PAGE = 25
EVENTS = 30
ENDED = ("succeeded", "failed", "cancelled")


@router.get("/pages/jobs")
def jobs(visit: Annotated[Visit, reads()]) -> Response:
    """The newest first."""
    table = Base.metadata.tables.get("jobs")
    if table is None:
        return visit.page("jobs.html.j2", jobs=None, further=None)
    query = select(table).where(table.c.tenant_id == visit.who.tenant_id)
    if (after := visit.query("after")) is not None and after.isdigit() and len(after) < 19:
        query = query.where(table.c.number < int(after))
    with visit.database.reading() as session:
        rows = session.execute(query.order_by(table.c.number.desc()).limit(PAGE + 1)).mappings().all()
    further = rows[PAGE - 1]["number"] if len(rows) > PAGE else None
    return visit.page("jobs.html.j2", jobs=rows[:PAGE], further=further)


@router.get("/pages/jobs/{job_id}")
def job(visit: Annotated[Visit, reads()], job_id: str) -> Response:
    """A job."""
    found = _own_job(visit, job_id)
    table, events = Base.metadata.tables.get("job_events"), list[Mapping[Any, Any]]()
    if table is not None:
        query = select(table).where(table.c.job_id == job_id, table.c.kind == "message")
        with visit.database.reading() as session:
            events += session.execute(query.order_by(table.c.number.desc()).limit(EVENTS)).mappings().all()
    return visit.page("job.html.j2", job=found, events=events, ended=found["state"] in ENDED)


@router.get("/pages/jobs/{job_id}/curves")
def curves(visit: Annotated[Visit, reads()], job_id: str) -> Response:
    """The part of a job's page that renews itself: the curves of its run."""
    _own_job(visit, job_id)
    return curves_page(visit, own_run(visit.site.jobs, job_id))


def _own_job(visit: Visit, job_id: str) -> Mapping[Any, Any]:
    """A job of this tenant.

    Raises:
        ServiceError: 404.
    """
    table, found = Base.metadata.tables.get("jobs"), None
    if table is not None:
        query = select(table).where(table.c.id == job_id, table.c.tenant_id == visit.who.tenant_id)
        with visit.database.reading() as session:
            found = session.execute(query).mappings().one_or_none()
    if found is None:
        raise ServiceError(404, f"There is no job {job_id[:100]!r}.", "no_job")
    return found
