"""The organiser's figures while people rate: judges against people by `evaluation.raters`, and disagreements."""

from __future__ import annotations

import statistics
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Figures:
    """A set's report, as far as it is known."""

    report: RatersReport | None
    """None until two annotators rated something that a judge has scored."""
    resamples: int
    state: tuple[int, int]
    """Of the ratings that it was made from."""


class LiveAgreement:
    """Computes a set's figures once for every state of its ratings, apart from the pages, which do not wait for it."""

    def __init__(self, database: Database) -> None:
        """Know none yet."""
        self._database = database
        self._kept: dict[int, Figures] = {}
        self._asked: dict[int, Future[Figures]] = {}
        self._turn = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "agreement")  # one at a time: it must not take all cores

    def figures(self, found: RatingSet, wait_s: float = 0.05) -> tuple[Figures | None, bool]:
        """The newest figures there are, and whether newer ones are being computed; it waits this long for them."""
        with self._database.reading() as session:
            state = _state(session, found)
        kept = self._kept.get(found.number)
        if kept is not None and kept.state == state:
            return kept, False
        with self._turn:
            asked = self._asked.get(found.number)
            if asked is None or asked.done():
                asked = self._asked[found.number] = self._worker.submit(self._compute, found)
        try:
            computed = asked.result(wait_s)
        except TimeoutError:
            return kept, True
        return computed, computed.state != state

    def _compute(self, found: RatingSet) -> Figures:
        with self._database.reading() as session:
            state = _state(session, found)
            resamples = LIVE_RESAMPLES if standing(session, found).missing else RESAMPLES
            given = given_ratings(session, found)
            items = session.scalars(select(RatingItem).where(RatingItem.set_number == found.number)).all()
        scores: dict[str, dict[str, float]] = {}
        for item in items:
            for judge, score in item.scores.items():
                scores.setdefault(judge, {})[item.name] = score
        report = None
        if len({one.annotator for one in given}) > 1 and scores:
            report = compare(rated_items(given), scores, resamples)
        if len(self._kept) >= KEPT:
            self._kept.clear()
            self._asked.clear()
        self._kept[found.number] = Figures(report, resamples, state)
        return self._kept[found.number]


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
    gaps = [abs(score - statistics.fmean(values)) for score in item.scores.values()]
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
