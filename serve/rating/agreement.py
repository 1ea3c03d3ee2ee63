"""The organiser's figures while people rate: judges against people by `evaluation.raters`, and disagreements."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evaluation.raters import RatersReport, compare
from serve.database.connection import Database
from serve.database.page_tables import Rating, RatingItem, RatingSet
from serve.rating.export import Given, given_ratings, rated_items
from serve.rating.sets import standing

LIVE_RESAMPLES = 1000
RESAMPLES = 10_000
"""Of a set that is rated whole: as many as the command draws, so that the figures are the same."""
KEPT = 64
"""Reports that are kept, the newest for each set."""


@dataclass(frozen=True, slots=True)
class Disputed:
    """An item with what everybody gave it."""

    item: RatingItem
    ratings: dict[str, float]
    points: dict[str, dict[str, int]]
    spread: float
    """Highest rating less lowest."""
    gap: float | None
    """Largest distance of a judge's score from the annotators' mean; None without a judge."""


class LiveAgreement:
    """Computes a set's report once for every state of its ratings."""

    def __init__(self, database: Database) -> None:
        """Know none yet."""
        self._database = database
        self._kept: dict[int, tuple[tuple[int, int], RatersReport]] = {}
        self._turn = threading.Lock()

    def report(self, found: RatingSet) -> tuple[RatersReport | None, int]:
        """The report with its number of resamples; None until two annotators rated something, or without a judge."""
        with self._database.reading() as session:
            state = _state(session, found)
            kept = self._kept.get(found.number)
            resamples = LIVE_RESAMPLES if standing(session, found).missing else RESAMPLES
            if kept is not None and kept[0] == state:
                return kept[1], resamples
            given = given_ratings(session, found)
            items = session.scalars(select(RatingItem).where(RatingItem.set_number == found.number)).all()
        scores: dict[str, dict[str, float]] = {}
        for item in items:
            for judge, score in item.scores.items():
                scores.setdefault(judge, {})[item.name] = score
        if len({one.annotator for one in given}) < 2 or not scores:
            return None, resamples
        with self._turn:  # one at a time: a page that is asked for often must not take all cores
            report = compare(rated_items(given), scores, resamples)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[found.number] = (state, report)
        return report, resamples


def disputed(session: Session, found: RatingSet) -> list[Disputed]:
    """The items that at least two annotators rated: those first on which people differ most, then the judges."""
    by_item: dict[int, list[Given]] = {}
    for one in given_ratings(session, found):
        by_item.setdefault(one.item.number, []).append(one)
    rows = [_disputed(of_item) for of_item in by_item.values() if len(of_item) > 1]
    return sorted(rows, key=lambda row: (-row.spread, -(row.gap or 0.0), row.item.number))


def _disputed(given: list[Given]) -> Disputed:
    item = given[0].item
    ratings = {one.annotator: float(one.rating.value or 0.0) for one in given}
    values = list(ratings.values())
    gaps = [abs(score - float(np.mean(values))) for score in item.scores.values()]
    points = {one.annotator: dict(one.rating.points) for one in given}
    return Disputed(item, ratings, points, max(values) - min(values), max(gaps, default=None))


def _state(session: Session, found: RatingSet) -> tuple[int, int]:
    """Changes whenever a rating is given or taken back."""
    given, changes = session.execute(
        select(func.count(Rating.value), func.coalesce(func.sum(Rating.revision), 0))
        .join(RatingItem, RatingItem.number == Rating.item_number)
        .where(RatingItem.set_number == found.number)
    ).one()
    return int(given), int(changes)
