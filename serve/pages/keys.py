"""A tenant's keys: make one, which is shown once, and revoke one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import and_, or_, select

from serve.database.tables import Base, Key
from serve.errors import ServiceError
from serve.pages.visit import Visit, posts, reads
from serve.tenants.audit import record
from serve.tenants.keys import SCOPES, make_key, revoke_key

router = APIRouter()
PAGE = 50
FILE_COLUMNS = ("id", "name", "purpose", "bytes", "created_at")
"""What is shown of a file, as far as its table has it."""
MOST_DAYS = 3650


@router.get("/pages/keys")
def keys(visit: Annotated[Visit, reads("keys")]) -> Response:
    """The tenant's keys, the newest first."""
    query = select(Key).where(Key.tenant_id == visit.who.tenant_id)
    if (after := _after(visit)) is not None:
        at, digest = after
        query = query.where(or_(Key.created_at < at, and_(Key.created_at == at, Key.digest < digest)))
    with visit.database.reading() as session:
        rows = session.scalars(query.order_by(Key.created_at.desc(), Key.digest.desc()).limit(PAGE + 1)).all()
    further = f"{rows[PAGE - 1].created_at!r}_{rows[PAGE - 1].digest}" if len(rows) > PAGE else None
    own = [scope for scope in SCOPES if scope in visit.who.scopes]
    return visit.page("keys.html.j2", keys=rows[:PAGE], further=further, scopes=own)


@router.post("/pages/keys")
def make(visit: Annotated[Visit, posts("keys")]) -> Response:
    """Make a key with scopes that the one who asks has."""
    name, days = visit.text("name", 200).strip(), visit.number("days", 1, MOST_DAYS, 0)
    scopes = [scope for scope in SCOPES if visit.text(f"scope-{scope}", 10)]
    if not name:
        raise ServiceError(400, "Give the key a name: the audit log calls it so.", "no_name")
    if not scopes:
        raise ServiceError(400, "Choose at least one scope: the key could do nothing.", "no_scope")
    if beyond := [scope for scope in scopes if scope not in visit.who.scopes]:
        raise ServiceError(403, f"Your own key lacks the scope {beyond[0]!r}: it can hand on what it has.", "no_scope")
    key = make_key(visit.database, visit.who.tenant, name, scopes, days or None)
    _note(visit, "make_key", name)
    return visit.page("key_made.html.j2", key=key, name=name)


@router.post("/pages/keys/{digest}/revoke")
def revoke(visit: Annotated[Visit, posts("keys")], digest: str) -> Response:
    """End a key."""
    with visit.database.writing() as session:
        name = revoke_key(session, visit.who.tenant_id, digest[:64])
    _note(visit, "revoke_key", name)
    return visit.to("/pages/keys")


@router.get("/pages/files")
def files(visit: Annotated[Visit, reads()]) -> Response:
    """The tenant's files, where the service keeps any."""
    table = Base.metadata.tables.get("files")
    if table is None:
        return visit.page("files.html.j2", files=None, further=None)
    columns = [table.c[name] for name in FILE_COLUMNS if name in table.c]
    query = select(table.c.number, *columns).where(table.c.tenant_id == visit.who.tenant_id)
    if (after := visit.query("after")) is not None and after.isdigit() and len(after) < 19:
        query = query.where(table.c.number < int(after))
    with visit.database.reading() as session:
        rows = session.execute(query.order_by(table.c.number.desc()).limit(PAGE + 1)).mappings().all()
    further = rows[PAGE - 1]["number"] if len(rows) > PAGE else None
    return visit.page("files.html.j2", files=rows[:PAGE], further=further)


def _after(visit: Visit) -> tuple[float, str] | None:
    """Where a further page begins."""
    at, _, digest = (visit.query("after") or "").partition("_")
    try:
        return (float(at), digest) if digest else None
    except ValueError:
        return None


def _note(visit: Visit, action: str, name: str) -> None:
    with visit.database.writing() as session:
        record(session, action, f"{visit.who.tenant}/{name}", tenant_id=visit.who.tenant_id,
               key_name=visit.who.key_name)  # fmt: skip
