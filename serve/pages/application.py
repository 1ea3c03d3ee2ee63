"""The pages as an application, and the one call that puts it before the API of the training service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from serve.database.connection import Database
from serve.errors import ServiceError
from serve.operations.logs import tell
from serve.pages import jobs, keys, models, organiser, playground, raters, runs, samples, signing
from serve.pages.door import PageDoor
from serve.pages.shell import STATIC, environment, html
from serve.pages.visit import NotSignedIn, Site
from serve.rating.agreement import LiveAgreement
from serve.settings import ServeSettings

DAY_S = 86_400


def make_pages(database: Database, folder: Path, settings: ServeSettings) -> FastAPI:
    """The pages on a database and the folder of a service, which lies beside those of the runs."""
    pages = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    environment()
    pages.state.site = Site(database, folder.parent, folder / "jobs", settings, LiveAgreement(database))
    pages.mount("/pages/static", Cached(directory=STATIC), "static")
    pages.mount("/rate/static", Cached(directory=STATIC), "rate-static")
    for part in (signing, runs, jobs, samples, playground, models, keys, organiser, raters):
        pages.include_router(part.router)
    pages.add_exception_handler(NotSignedIn, ask_to_sign_in)  # type: ignore[arg-type]  # Starlette's type is too narrow
    pages.add_exception_handler(ServiceError, refused)  # type: ignore[arg-type]
    pages.add_exception_handler(RequestValidationError, no_such_page)
    pages.add_exception_handler(HTTPException, not_here)  # type: ignore[arg-type]
    pages.add_exception_handler(OperationalError, no_database)
    pages.add_exception_handler(Exception, broken)
    return pages


def add_pages(api: FastAPI, database: Database, folder: Path, settings: ServeSettings) -> None:
    """Put the pages before everything else of an application: they have cookies and forms where it has keys.

    Args:
        api: with all of its middleware.
        database: the service's.
        folder: of the service.
        settings: of the service.
    """
    pages = make_pages(database, folder, settings)
    api.add_middleware(PageDoor, pages=pages, max_upload_mib=settings.max_body_mib)


def pages_alone(database: Database, folder: Path, settings: ServeSettings) -> PageDoor:
    """The pages without a training service behind them."""
    nothing = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    return PageDoor(nothing, make_pages(database, folder, settings), settings.max_body_mib)


class Cached(StaticFiles):
    """Files that a browser may keep for a day."""

    def file_response(self, *arguments: Any, **more: Any) -> Response:
        """See Starlette."""
        response = super().file_response(*arguments, **more)
        response.headers["cache-control"] = f"max-age={DAY_S}"
        return response


def ask_to_sign_in(request: Request, error: NotSignedIn) -> Response:
    """Nobody is signed in, or any more."""
    if error.area == "rate":
        return sentence(request, 401, "Open the link you were given once more: this browser is not signed in.")
    if request.method == "GET" and "hx-request" not in request.headers:
        return RedirectResponse("/pages/sign-in", 303)
    return sentence(request, 401, "You are not signed in any more: load the page again, nothing was done.")


def refused(request: Request, error: ServiceError) -> Response:
    """A refusal, as a page with its sentence."""
    return sentence(request, error.status, error.message)


def no_such_page(request: Request, error: Exception) -> Response:
    """An address that is none of ours."""
    return sentence(request, 404, "There is no such page.")


def not_here(request: Request, error: HTTPException) -> Response:
    """What Starlette itself refuses."""
    return sentence(request, error.status_code, "There is no such page." if error.status_code == 404 else error.detail)


def no_database(request: Request, error: Exception) -> Response:
    """The database is away."""
    tell("the database does not answer", level=40, error=type(error).__name__)
    return sentence(request, 503, "The database does not answer: try again in a moment.")


def broken(request: Request, error: Exception) -> Response:
    """What nobody foresaw; the log has it."""
    tell("a page failed", level=40, error=repr(error)[:500], path=request.url.path[:200])
    return sentence(request, 500, f"This page failed ({type(error).__name__}); the log says more.")


def sentence(request: Request, status: int, text: str) -> Response:
    """A page of one sentence."""
    said = text[:1].upper() + text[1:] + ("" if text.rstrip().endswith((".", "?", "!", ":")) else ".")
    area = "rate" if request.url.path.startswith("/rate") else "pages"
    return HTMLResponse(html("sentence.html.j2", {"area": area, "status": status, "text": said}), status)
