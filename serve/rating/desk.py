"""The rater's desk: the next answer, a rating given, a rating taken back.

A form carries the number of its rating and the revision that it was made from. What another tab did in between makes
it stale: nothing is changed then, and one sentence says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from rewards.judge import Criterion, value_of
from serve.database.connection import Database
from serve.database.page_tables import Annotator, Rating, RatingImage, RatingItem, RatingSet
from serve.errors import ServiceError
from serve.rating.sheet import criteria_of, meanings, read_points


@dataclass(frozen=True, slots=True)
class Task:
    """An answer on the desk."""

    rating: Rating
    item: RatingItem
    sheet: dict[str, Any]

    @property
    def criteria(self) -> list[Criterion]:
        """The lines to fill in."""
        return criteria_of(self.sheet)

    @property
    def meanings(self) -> dict[str, str]:
        """What earns the points of each, as far as the rubric says."""
        return meanings(self.sheet)


@dataclass(frozen=True, slots=True)
class Desk:
    """What an annotator sees."""

    set_name: str
    annotator: str
    done: int
    total: int
    task: Task | None
    """None: everything is rated."""
    last: Rating | None
    """The rating that can be taken back."""


def desk(database: Database, annotator_number: int) -> Desk:
    """The annotator's next answer, and how far they are; its time begins now."""
    with database.writing() as session:
        person, found = _who(session, annotator_number)
        done, total = session.execute(
            select(func.count(Rating.value), func.count()).where(Rating.annotator_number == annotator_number)
        ).one()
        rating = session.scalar(
            select(Rating)
            .where(Rating.annotator_number == annotator_number, Rating.value.is_(None))
            .order_by(Rating.place)
            .limit(1)
        )
        last = session.scalar(
            select(Rating)
            .where(Rating.annotator_number == annotator_number, Rating.value.is_not(None))
            .order_by(Rating.rated_at.desc(), Rating.number.desc())
            .limit(1)
        )
        task = None
        if rating is not None:
            rating.shown_at = time.time()
            item = session.get_one(RatingItem, rating.item_number)
            task = Task(rating, item, found.rubrics[item.rubric])
        return Desk(found.name, person.name, done, total, task, last)


def rate(
    database: Database, annotator_number: int, rating_number: int, revision: int, given: Mapping[str, str]
) -> str | None:
    """Give a rating; a sentence where another tab was faster, and nothing was changed.

    The same rating sent twice, as by a double click, is one rating.

    Raises:
        BadPoints: the form is no filled sheet.
        ServiceError: 404, the rating is not this annotator's.
    """
    with database.writing() as session:
        rating, found = _own(session, annotator_number, rating_number)
        item = session.get_one(RatingItem, rating.item_number)
        criteria = criteria_of(found.rubrics[item.rubric])
        points = read_points(criteria, given)
        now, value = time.time(), value_of(criteria, points)
        began = rating.shown_at
        changed = _changed(session, rating, revision, value=value, points=points, rated_at=now,
                           seconds=None if began is None else max(0.0, now - began))  # fmt: skip
        if changed or (rating.value is not None and dict(rating.points) == points):
            return None
        if rating.value is None:
            return "This answer was taken back in another tab: nothing was saved, please rate it here."
        return (
            f"This answer was already rated in another tab, with {rating.value:g} of 100: the {value:g} just sent was "
            "not saved. Undo to change it."
        )


def take_back(database: Database, annotator_number: int, rating_number: int, revision: int) -> str | None:
    """Take a rating back, so that its answer comes up again; a sentence where another tab was faster.

    Raises:
        ServiceError: 404, the rating is not this annotator's.
    """
    with database.writing() as session:
        rating, _ = _own(session, annotator_number, rating_number)
        if rating.value is not None and _changed(session, rating, revision, value=None, rated_at=None, seconds=None):
            return None
        return "This rating was already changed in another tab: nothing was undone."


def image_of(database: Database, annotator_number: int, rating_number: int, index: int) -> RatingImage:
    """An image of an answer on this annotator's desk, by its place.

    Raises:
        ServiceError: 404.
    """
    with database.reading() as session:
        rating, _ = _own(session, annotator_number, rating_number)
        return item_image(session, session.get_one(RatingItem, rating.item_number), index)


def item_image(session: Session, item: RatingItem, index: int) -> RatingImage:
    """An image of an item, by its place.

    Raises:
        ServiceError: 404.
    """
    digests = list(item.shown["images"].values())
    if not 0 <= index < len(digests):
        raise ServiceError(404, "there is no such image", "no_image")
    return session.get_one(RatingImage, digests[index])


def _changed(session: Session, rating: Rating, revision: int, **values: Any) -> bool:
    """Change a rating that is still at this revision."""
    result = session.execute(
        update(Rating)
        .where(Rating.number == rating.number, Rating.revision == revision)
        .values(revision=revision + 1, **values)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", result).rowcount == 1


def _own(session: Session, annotator_number: int, rating_number: int) -> tuple[Rating, RatingSet]:
    rating = session.get(Rating, rating_number) if rating_number < 2**62 else None
    if rating is None or rating.annotator_number != annotator_number:
        raise ServiceError(404, "there is no such answer among yours", "no_rating")
    return rating, _who(session, annotator_number)[1]


def _who(session: Session, annotator_number: int) -> tuple[Annotator, RatingSet]:
    person = session.get_one(Annotator, annotator_number)
    return person, session.get_one(RatingSet, person.set_number)
