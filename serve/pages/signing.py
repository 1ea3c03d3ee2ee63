"""Signing in with a key, and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from serve.errors import ServiceError
from serve.pages import sessions
from serve.pages.shell import SECTIONS
from serve.pages.visit import Visit, opens, opens_form
from serve.tenants.audit import record
from serve.tenants.keys import KeyRing, digest_of

router = APIRouter()


@router.get("/")
@router.get("/pages")
@router.get("/pages/")
def start(visit: Annotated[Visit, opens("pages")]) -> Response:
    """The first page."""
    return RedirectResponse("/pages/runs", 303)


@router.get("/pages/sign-in")
def ask(visit: Annotated[Visit, opens("pages")]) -> Response:
    """Where a key is pasted."""
    return visit.page("sign_in.html.j2", fault=None)


@router.post("/pages/sign-in")
def enter(visit: Annotated[Visit, opens_form("pages")]) -> Response:
    """Sign in: the key itself is kept nowhere."""
    key = visit.text("key", 400).strip()
    try:
        caller = KeyRing(visit.database).caller(key)
    except ServiceError as error:
        return visit.page("sign_in.html.j2", error.status, fault=f"{error.message[:1].upper()}{error.message[1:]}.")
    cookie = sessions.sign_in(visit.database, key_digest=digest_of(key))
    with visit.database.writing() as session:
        record(session, "sign_in", "pages", tenant_id=caller.tenant_id, key_name=caller.key_name)
    first = next((path for path, scope, _ in SECTIONS if scope in caller.scopes), SECTIONS[0][0])
    return visit.with_cookie(RedirectResponse(first, 303), cookie)


@router.post("/pages/sign-out")
def leave(visit: Annotated[Visit, opens_form("pages")]) -> Response:
    """Sign out."""
    sessions.sign_out(visit.database, visit.cookie)
    return visit.with_cookie(RedirectResponse("/pages/sign-in", 303), sessions.new_cookie())
