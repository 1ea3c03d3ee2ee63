"""A set as `python -m evaluation.raters` reads it: ratings and scores, a JSON line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evaluation.raters import RatedItem
from serve.database.page_tables import Annotator, Rating, RatingItem, RatingSet
from serve.errors import ServiceError
from serve.rating.sets import standing


@dataclass(frozen=True, slots=True)
class Given:
    """A rating that was given."""

    item: RatingItem
    annotator: str
    rating: Rating


def given_ratings(session: Session, found: RatingSet) -> list[Given]:
    """Every rating of a set that was given, by item and annotator."""
    of_set = session.scalars(select(RatingItem).where(RatingItem.set_number == found.number))
    items = {item.number: item for item in of_set}
    rows = session.execute(
        select(Rating, Annotator.name)
        .join(Annotator, Annotator.number == Rating.annotator_number)
        .where(Annotator.set_number == found.number, Rating.value.is_not(None))
        .order_by(Rating.item_number, Annotator.number)
    )
    return [Given(items[rating.item_number], name, rating) for rating, name in rows]


def check_whole(session: Session, found: RatingSet) -> None:
    """Refuse a set that is not rated whole.

    Raises:
        ServiceError: 409, with what is missing of whom.
    """
    now = standing(session, found)
    if now.missing:
        missing = ", ".join(f"{name} {now.asked[name] - given}" for name, given in now.given.items()
                            if given < now.asked[name])  # fmt: skip
        raise ServiceError(
            409,
            f"{now.missing} ratings of {sum(now.asked.values())} are missing ({missing}): export when all are given, "
            "or ask for a partial export (--partial, or ?partial=1)",
            "not_rated",
        )


def ratings_lines(given: Iterable[Given]) -> str:
    """RATINGS.jsonl: what the reader needs, with the points of each criterion and the time beside it."""
    return _lines(
        {
            "item": one.item.name,
            "task": one.item.task,
            "annotator": one.annotator,
            "rating": one.rating.value,
            "points": one.rating.points,
            "rubric": one.item.rubric,
            "seconds": None if one.rating.seconds is None else round(one.rating.seconds, 1),
            "rated_at": one.rating.rated_at,
        }
        for one in given
    )


def scores_lines(session: Session, found: RatingSet) -> str:
    """SCORES.jsonl: the judges' scores of all items."""
    items = session.scalars(select(RatingItem).where(RatingItem.set_number == found.number).order_by(RatingItem.number))
    return _lines(
        {"item": item.name, "judge": judge, "score": score}
        for item in items
        for judge, score in sorted(item.scores.items())
    )


def rated_items(given: Iterable[Given]) -> dict[str, RatedItem]:
    """The same ratings, as the reader would hand them to `compare`."""
    ratings: dict[str, dict[str, float]] = {}
    tasks: dict[str, str] = {}
    for one in given:
        assert one.rating.value is not None
        ratings.setdefault(one.item.name, {})[one.annotator] = one.rating.value
        tasks[one.item.name] = one.item.task
    return {name: RatedItem(tasks[name], of_item) for name, of_item in ratings.items()}


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
