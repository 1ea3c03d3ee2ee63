"""The annotators' side of the scoring website: join by one's link, rate, take back."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import RedirectResponse, Response

from evaluation.pages.gallery import marks
from serve.errors import ServiceError
from serve.pages import sessions
from serve.pages.pictures import View, views
from serve.pages.visit import Visit, opens, opens_form, rates
from serve.rating import desk as desks
from serve.rating.desk import Desk
from serve.rating.sheet import BadPoints

router = APIRouter()
MOST_NUMBER = 2**62


@router.get("/rate/join/{secret}")
def invited(visit: Annotated[Visit, opens("rate")], secret: str) -> Response:
    """What a link opens: who it is for, and a button. The cookie is set by the form, which comes from here."""
    person = sessions.annotator_of(visit.database, secret) if len(secret) <= 100 else None
    if person is None:
        raise ServiceError(404, "This link is unknown, or was replaced by a new one: ask for it again.", "no_link")
    return visit.page("join.html.j2", person=person, secret=secret)


@router.post("/rate/join")
def join(visit: Annotated[Visit, opens_form("rate")]) -> Response:
    """Begin, or go on."""
    person = sessions.annotator_of(visit.database, visit.text("secret", 100))
    if person is None:
        raise ServiceError(404, "This link is unknown, or was replaced by a new one: ask for it again.", "no_link")
    cookie = sessions.sign_in(visit.database, annotator_number=person.number)
    return visit.with_cookie(RedirectResponse("/rate/", 303), cookie)


@router.get("/rate")
@router.get("/rate/")
def answer(visit: Annotated[Visit, rates()]) -> Response:
    """The next answer."""
    return _page(visit, desks.desk(visit.database, visit.rater))


@router.post("/rate/")
def rate(visit: Annotated[Visit, rates(form=True)]) -> Response:
    """Give a rating."""
    number, revision = _place(visit)
    given = {name: visit.text(name, 20) for name in list(visit.form)[:40] if name.startswith("points-")}
    points = {name.removeprefix("points-"): text for name, text in given.items()}
    try:
        said = desks.rate(visit.database, visit.rater, number, revision, points)
    except BadPoints as bad:
        now = desks.desk(visit.database, visit.rater)
        same = now.task is not None and now.task.rating.number == number
        return _page(visit, now, fault=str(bad), field=bad.field if same else "", given=points if same else {})
    return _page(visit, desks.desk(visit.database, visit.rater), said=said) if said else visit.to("/rate/")


@router.post("/rate/undo")
def undo(visit: Annotated[Visit, rates(form=True)]) -> Response:
    """Take the last rating back."""
    number, revision = _place(visit)
    said = desks.take_back(visit.database, visit.rater, number, revision)
    return _page(visit, desks.desk(visit.database, visit.rater), said=said) if said else visit.to("/rate/")


@router.get("/rate/image/{rating}/{index}")
def image(visit: Annotated[Visit, rates()], rating: int, index: int) -> Response:
    """An image of an answer, known by places alone: no name of a file is ever read from an address."""
    found = desks.image_of(visit.database, visit.rater, rating, index)
    return Response(found.data, media_type=found.media_type, headers={"cache-control": "private, max-age=3600"})


def _place(visit: Visit) -> tuple[int, int]:
    return visit.number("rating", 0, MOST_NUMBER), visit.number("revision", 0, MOST_NUMBER)


def _page(
    visit: Visit, now: Desk, *, said: str | None = None, fault: str | None = None, field: str = "",
    given: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    """The desk; `said` is about what another tab did, `fault` about a field of the form."""
    shown: tuple[View, ...] = ()
    points = given or {}
    if now.task is not None:
        item, number = now.task.item.shown, now.task.rating.number
        found = marks({"asked": item["question"], "answered": item["answer"]})
        shown = views(item["images"], lambda index: f"/rate/image/{number}/{index}", found)
        points = points or {name: str(value) for name, value in now.task.rating.points.items()}
    return visit.page("rate.html.j2", 400 if fault else 409 if said else 200, desk=now, views=shown, said=said,
                      fault=fault, field=field, points=points, now=time.time())  # fmt: skip
