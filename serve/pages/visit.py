"""`Visit`: one request as a page sees it: the browser's cookie, who is signed in, the form it sent; and how to answer.

Every page takes one, by `reads`, `posts`, `rates` or their open kin; `tests/unit/test_page_attacks.py` walks them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from serve.database.connection import Database
from serve.errors import ServiceError
from serve.pages import sessions
from serve.pages.sessions import SignedIn
from serve.pages.shell import html
from serve.rating.agreement import LiveAgreement
from serve.settings import ServeSettings

COOKIE = {"pages": "autodriverl_pages", "rate": "autodriverl_rate"}
"""One for each area, so that an organiser can also rate."""
MAX_FIELDS = 200


@dataclass(frozen=True)
class Site:
    """What the pages stand on."""

    database: Database
    root: Path
    """Folder of the runs."""
    jobs: Path
    """Folder of the runs of tenants' jobs."""
    settings: ServeSettings
    agreement: LiveAgreement


class NotSignedIn(Exception):
    """A page that asks for a key, or for a link of one's own."""

    def __init__(self, area: str) -> None:
        """`area` is `pages` or `rate`."""
        super().__init__(area)
        self.area = area


class Visit:
    """Made for every request by the functions below."""

    def __init__(self, request: Request, area: str) -> None:
        """Read the cookie; a browser that has none gets one with the answer."""
        self.request, self.area = request, area
        self.site: Site = request.app.state.site
        given = request.cookies.get(COOKIE[area], "")
        self.fresh = not 20 <= len(given) <= 100
        self.cookie = sessions.new_cookie() if self.fresh else given
        self._who: SignedIn | None = None
        self._rater: int | None = None
        self.form: FormData = FormData()

    @property
    def database(self) -> Database:
        """The service's database."""
        return self.site.database

    @property
    def who(self) -> SignedIn:
        """Who is signed in with a key."""
        if self._who is None:
            raise NotSignedIn(self.area)
        return self._who

    @property
    def rater(self) -> int:
        """The number of the annotator."""
        if self._rater is None:
            raise NotSignedIn(self.area)
        return self._rater

    async def look_up(self) -> None:
        """Find out who this is."""
        if self.fresh:
            return
        if self.area == "rate":
            self._rater = await asyncio.to_thread(sessions.rater, self.database, self.cookie)
        else:
            self._who = await asyncio.to_thread(sessions.signed_in, self.database, self.cookie)

    async def read_form(self) -> None:
        """Read the form, and refuse one that was not made for this browser.

        Raises:
            ServiceError: 403 and 400.
        """
        limit = int(self.site.settings.max_body_mib * 2**20)
        try:
            self.form = await self.request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=limit)
        except HTTPException:
            raise ServiceError(400, "This form cannot be read: send it from the page.", "bad_form") from None
        if not sessions.is_own_form(self.cookie if not self.fresh else "", self.text("token")):
            raise ServiceError(403, "This form is not of this browser, or is too old: go back, load the page again and "
                               "send it from there.", "bad_token")  # fmt: skip

    def text(self, name: str, most: int = 2000) -> str:
        """A field of the form; empty where there is none.

        Raises:
            ServiceError: 400, it is a file or too long.
        """
        value = self.form.get(name, "")
        if isinstance(value, UploadFile) or len(value) > most:
            raise ServiceError(400, f"The field {name[:40]} is longer than {most} letters.", "bad_field")
        return value.replace("\r\n", "\n")

    def number(self, name: str, lowest: int, highest: int, default: int | None = None) -> int:
        """A whole number of the form.

        Raises:
            ServiceError: 400, it is none, or out of its range.
        """
        text = self.text(name, 20).strip()
        if not text and default is not None:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or not lowest <= int(text) <= highest:
            raise ServiceError(400, f"{name} must be a whole number from {lowest} to {highest}.", "bad_number")
        return int(text)

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page from a template."""
        shown = {"visit": self, "token": sessions.form_token(self.cookie), "me": self._who, **context}
        return self.with_cookie(HTMLResponse(html(template, shown), status))

    def to(self, path: str) -> Response:
        """On to another page, after a form."""
        return self.with_cookie(RedirectResponse(path, 303))

    def with_cookie(self, response: Response, cookie: str | None = None) -> Response:
        """Hand the browser its cookie, where it has none or a new one."""
        value = cookie or (self.cookie if self.fresh else None)
        if value is not None:
            lasts = sessions.SIGNED_IN_S if self.area == "pages" else sessions.RATING_S
            response.set_cookie(
                COOKIE[self.area], value, max_age=int(lasts), path=f"/{self.area}", httponly=True, samesite="strict",
                secure=self.request.url.scheme == "https",
            )  # fmt: skip
        return response

    def query(self, name: str) -> str | None:
        """A value of the address; None where it is missing or too long to be one of ours."""
        value = self.request.query_params.get(name)
        return value if value and len(value) <= 300 else None


def opens(area: str) -> Any:
    """The dependency of a page that anybody may see."""

    async def visit(request: Request) -> Visit:
        made = Visit(request, area)
        await made.look_up()
        return made

    return Depends(_marked(visit, f"open {area}"))


def opens_form(area: str) -> Any:
    """The dependency of a form that anybody may send."""

    async def visit(request: Request) -> Visit:
        made = Visit(request, area)
        await made.read_form()
        return made

    return Depends(_marked(visit, f"open {area} form"))


def reads(scope: str = "read") -> Any:
    """The dependency of a page that needs a key with this scope."""

    async def visit(request: Request) -> Visit:
        made = Visit(request, "pages")
        await made.look_up()
        _check_scope(made, scope)
        return made

    return Depends(_marked(visit, scope))


def posts(scope: str) -> Any:
    """The dependency of a form that needs a key with this scope."""

    async def visit(request: Request) -> Visit:
        made = Visit(request, "pages")
        await made.look_up()
        _check_scope(made, scope)
        await made.read_form()
        return made

    return Depends(_marked(visit, f"{scope} form"))


def rates(*, form: bool = False) -> Any:
    """The dependency of an annotator's page, or form."""

    async def visit(request: Request) -> Visit:
        made = Visit(request, "rate")
        await made.look_up()
        if made.rater is not None and form:
            await made.read_form()
        return made

    return Depends(_marked(visit, "rater form" if form else "rater"))


def _check_scope(visit: Visit, scope: str) -> None:
    if scope not in visit.who.scopes:
        raise ServiceError(403, f"Your key lacks the scope {scope!r}: sign in with one that has it.", "no_scope")


def _marked(dependency: Any, kind: str) -> Any:
    dependency.page_kind = kind  # what the walk over all pages looks for
    return dependency


def strings(form: Mapping[str, Any], *names: str) -> dict[str, str]:
    """The text fields of these names."""
    return {name: value for name in names if isinstance(value := form.get(name, ""), str)}
