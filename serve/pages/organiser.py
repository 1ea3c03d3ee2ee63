"""The organiser's side of the scoring website: make a set, hand out links, watch, discuss disagreements, export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy import select
from starlette.datastructures import UploadFile

from evaluation.pages.gallery import marks
from evaluation.run_list import runs_in
from evaluation.run_record import EVALUATION_FOLDER
from rewards.rubric import rubric_names
from serve.database.page_tables import RatingItem, RatingSet
from serve.errors import ServiceError
from serve.pages.pictures import View, views
from serve.pages.places import own_run
from serve.pages.visit import Site, Visit, posts, reads
from serve.rating.agreement import disputed
from serve.rating.answers import Answer, drawn, from_lines, from_run
from serve.rating.desk import item_image
from serve.rating.export import check_whole, given_ratings, ratings_lines, scores_lines
from serve.rating.sets import DEFAULT_COUNT, MOST, Made, make_set, new_link, own_set, standing
from serve.rating.sheet import OF_THE_TASK, ONE_SCORE
from serve.tenants.audit import record

router = APIRouter()
PAGE = 20
RUNS_OFFERED = 200
ROLLOUTS = "samples"
"""In place of an evaluation's name: all rollouts."""
RUBRICS = (
    (OF_THE_TASK, "the rubric of each task"),
    (ONE_SCORE, "no rubric: one score, 0 to 100"),
    *((name, name) for name in rubric_names()),
)
"""What a form may choose, with what it is called there."""


@router.get("/pages/rating")
def sets(visit: Annotated[Visit, reads("rate")]) -> Response:
    """The tenant's sets, the newest first."""
    after = _after(visit)
    with visit.database.reading() as session:
        query = select(RatingSet).where(RatingSet.tenant_id == visit.who.tenant_id)
        if after is not None:
            query = query.where(RatingSet.number < after)
        rows = session.scalars(query.order_by(RatingSet.number.desc()).limit(PAGE + 1)).all()
        shown = [standing(session, row) for row in rows[:PAGE]]
    further = rows[PAGE - 1].number if len(rows) > PAGE else None
    return visit.page("rating_sets.html.j2", sets=shown, further=further, **_offered(visit.site))


@router.post("/pages/rating/sets")
def make(visit: Annotated[Visit, posts("rate")]) -> Response:
    """Make a set; its links are on this page alone."""
    seed = visit.number("seed", 0, 2**31, 0)
    count = visit.number("count", 1, MOST, DEFAULT_COUNT)
    rubric = visit.text("rubric", 100) or OF_THE_TASK
    if rubric not in dict(RUBRICS):  # a path would be opened
        raise ServiceError(400, f"There is no rubric {rubric!r}: choose one of the list.", "no_rubric")
    answers, source, paths_from = _answers(visit)
    made = make_set(
        visit.database,
        visit.who.tenant_id,
        visit.text("name"),
        drawn(answers, count, seed),
        visit.text("annotators", 10_000).split("\n"),
        seed=seed,
        rubric=rubric,
        source=source,
        paths_from=paths_from,
    )
    return visit.page("rating_links.html.j2", links=_links(visit, made), made=made, asked=count)


@router.get("/pages/rating/{set_id}")
def show(visit: Annotated[Visit, reads("rate")], set_id: str) -> Response:
    """A set: how far its annotators are, its figures, and what people disagree on."""
    with visit.database.reading() as session:
        found = own_set(session, visit.who.tenant_id, set_id)
        now = standing(session, found)
    return visit.page("rating_set.html.j2", now=now)


@router.get("/pages/rating/{set_id}/figures")
def figures(visit: Annotated[Visit, reads("rate")], set_id: str) -> Response:
    """The part of a set's page that renews itself."""
    with visit.database.reading() as session:
        found = own_set(session, visit.who.tenant_id, set_id)
        now = standing(session, found)
    known, coming = visit.site.agreement.figures(found)
    return visit.page("rating_figures.html.j2", now=now, known=known, coming=coming)


@router.get("/pages/rating/{set_id}/disagreements")
def disagreements(visit: Annotated[Visit, reads("rate")], set_id: str) -> Response:
    """What was rated by two and more: the largest disagreement first."""
    start = _after(visit) or 0
    with visit.database.reading() as session:
        found = own_set(session, visit.who.tenant_id, set_id)
        rows = disputed(session, found)
    page = rows[start : start + PAGE]
    cards = [(row, _views(found, row.item)) for row in page]
    further = start + PAGE if len(rows) > start + PAGE else None
    return visit.page("disagreements.html.j2", found=found, cards=cards, total=len(rows), further=further)


@router.get("/pages/rating/{set_id}/items/{number}/images/{index}")
def image(visit: Annotated[Visit, reads("rate")], set_id: str, number: int, index: int) -> Response:
    """An image of a set's answer."""
    with visit.database.reading() as session:
        found = own_set(session, visit.who.tenant_id, set_id)
        item = session.get(RatingItem, number) if 0 <= number < 2**62 else None
        if item is None or item.set_number != found.number:
            raise ServiceError(404, "There is no such answer.", "no_item")
        kept = item_image(session, item, index)
    return Response(kept.data, media_type=kept.media_type, headers={"cache-control": "private, max-age=3600"})


@router.get("/pages/rating/{set_id}/{part}.jsonl")
def export(visit: Annotated[Visit, reads("rate")], set_id: str, part: str) -> Response:
    """`ratings.jsonl` and `scores.jsonl`, as `python -m evaluation.raters` reads them."""
    if part not in ("ratings", "scores"):
        raise ServiceError(404, "There are ratings.jsonl and scores.jsonl.", "no_export")
    with visit.database.reading() as session:
        found = own_set(session, visit.who.tenant_id, set_id)
        if visit.query("partial") is None:
            check_whole(session, found)
        text = ratings_lines(given_ratings(session, found)) if part == "ratings" else scores_lines(session, found)
    with visit.database.writing() as session:
        record(session, f"export_{part}", set_id, tenant_id=visit.who.tenant_id, key_name=visit.who.key_name)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", found.name).strip("-")[:60] or "set"
    headers = {"content-disposition": f'attachment; filename="{name}.{part}.jsonl"'}
    return PlainTextResponse(text, headers=headers, media_type="application/jsonl")


@router.post("/pages/rating/{set_id}/links")
def link(visit: Annotated[Visit, posts("rate")], set_id: str) -> Response:
    """A new link for an annotator who lost theirs."""
    annotator = visit.text("annotator", 100)
    secret = new_link(visit.database, visit.who.tenant_id, set_id, annotator)
    made = Made(set_id, 0, {annotator: secret})
    return visit.page("rating_links.html.j2", links=_links(visit, made), made=made, asked=0)


def _answers(visit: Visit) -> tuple[list[Answer], str, Path | None]:
    """What a set is to be drawn from, where that is, and where paths of images begin: nowhere for an upload."""
    file = visit.form.get("file")
    if isinstance(file, UploadFile) and file.filename:
        name = re.sub(r"[^\w. -]+", "_", file.filename)[:80]
        return from_lines(file.file.read(), name), f"the file {name}", None
    run, _, evaluation = visit.text("run", 600).partition("/")
    if not run:
        raise ServiceError(400, "Name a run, or give a file of answers.", "no_source")
    folder = own_run(visit.site.root, run)
    evaluation = evaluation or ROLLOUTS
    answers = from_run(folder, None if evaluation == ROLLOUTS else evaluation)
    return answers, f"the run {run}, {'its rollouts' if evaluation == ROLLOUTS else evaluation}", folder


def _links(visit: Visit, made: Made) -> dict[str, str]:
    base = str(visit.request.base_url).rstrip("/")
    return {name: f"{base}/rate/join/{secret}" for name, secret in made.secrets.items()}


def _offered(site: Site) -> dict[str, Any]:
    """What the form lets one choose from."""
    sources = []
    for folder in runs_in(site.root)[:RUNS_OFFERED]:
        sources.append((f"{folder.name}/{ROLLOUTS}", f"{folder.name}: rollouts"))
        names = sorted(path.stem for path in (folder / EVALUATION_FOLDER).glob("*.json"))
        sources += [(f"{folder.name}/{name}", f"{folder.name}: {name}") for name in names]
    return {"sources": sources, "rubrics": RUBRICS, "count": DEFAULT_COUNT, "most": MOST}


def _views(found: RatingSet, item: RatingItem) -> tuple[View, ...]:
    address = f"/pages/rating/{found.id}/items/{item.number}/images"
    found_marks = marks({"asked": item.shown["question"], "answered": item.shown["answer"]})
    return views(item.shown["images"], lambda index: f"{address}/{index}", found_marks)


def _after(visit: Visit) -> int | None:
    """Where a further page of a list begins."""
    given = visit.query("after") or ""
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
