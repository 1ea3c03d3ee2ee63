"""The tables of the pages: who is signed in, sets of answers that people rate, and an index of the runs' samples.

Times are seconds since 1970. Of a link's or a cookie's secret only the SHA-256 is kept.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from serve.database.tables import BIG, Base


class PageSession(Base):
    """A browser that is signed in: with a key, or as an annotator."""

    __tablename__ = "page_sessions"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_digest: Mapped[str | None] = mapped_column(ForeignKey("keys.digest"), index=True)
    annotator_number: Mapped[int | None] = mapped_column(ForeignKey("rating_annotators.number"), index=True)
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float, index=True)


class RatingSet(Base):
    """Answers that every one of which is rated by exactly three annotators."""

    __tablename__ = "rating_sets"
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(Text)
    """Where the answers are from, in words."""
    seed: Mapped[int] = mapped_column(BIG)
    rubrics: Mapped[dict[str, Any]]
    """Label of a rubric to its `text` and `criteria`, as they were when the set was made."""
    created_at: Mapped[float] = mapped_column(Float)


class RatingItem(Base):
    """One answer of a set, with what annotators see of it, and the judges' scores, which they do not see."""

    __tablename__ = "rating_items"
    __table_args__ = (UniqueConstraint("set_number", "name"),)
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    set_number: Mapped[int] = mapped_column(ForeignKey("rating_sets.number"), index=True)
    name: Mapped[str] = mapped_column(String(400))
    """What the export calls it."""
    task: Mapped[str] = mapped_column(String(40))
    rubric: Mapped[str] = mapped_column(String(200))
    shown: Mapped[dict[str, Any]]
    """`question`, `choices`, `reference`, `answer`, and `images`: camera to digest."""
    scores: Mapped[dict[str, Any]]
    """Judge to its score, 0-100."""


class RatingImage(Base):
    """An image of some item, once for all of them, as its file was."""

    __tablename__ = "rating_images"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(40))
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Annotator(Base):
    """Somebody who rates a set, by a link of their own."""

    __tablename__ = "rating_annotators"
    __table_args__ = (UniqueConstraint("set_number", "name"),)
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    set_number: Mapped[int] = mapped_column(ForeignKey("rating_sets.number"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    digest: Mapped[str] = mapped_column(String(64), unique=True)


class Rating(Base):
    """One annotator's rating of one item: made with the set, so that no item has more or fewer than it should."""

    __tablename__ = "rating_ratings"
    __table_args__ = (
        UniqueConstraint("item_number", "annotator_number"),
        UniqueConstraint("annotator_number", "place"),
    )
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    item_number: Mapped[int] = mapped_column(ForeignKey("rating_items.number"))
    annotator_number: Mapped[int] = mapped_column(ForeignKey("rating_annotators.number"))
    place: Mapped[int] = mapped_column(BIG)
    """In the annotator's own order, from 0."""
    revision: Mapped[int] = mapped_column(BIG)
    """How often it was given or taken back: a form that was made before that is stale."""
    value: Mapped[float | None] = mapped_column(Float)
    """0-100; None while it is to be given."""
    points: Mapped[dict[str, Any]]
    """Criterion to points; kept when a rating is taken back, as what the next form begins with."""
    shown_at: Mapped[float | None] = mapped_column(Float)
    """When its form was last made."""
    rated_at: Mapped[float | None] = mapped_column(Float)
    seconds: Mapped[float | None] = mapped_column(Float)
    """From its form to the rating."""


class IndexedFile(Base):
    """A file of a run's rollouts whose rows are in `run_samples`, and its state when they were read."""

    __tablename__ = "indexed_files"
    __table_args__ = (UniqueConstraint("run", "step"),)
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    run: Mapped[str] = mapped_column(String(255))
    step: Mapped[int] = mapped_column(BIG)
    stamp: Mapped[str] = mapped_column(String(60))
    """Size and time of the file."""


class RunSample(Base):
    """A rollout of a run: what lists show and sort by. The rest is read from the run's own file."""

    __tablename__ = "run_samples"
    __table_args__ = (
        Index("run_samples_by_value", "run", "value", "number"),
        Index("run_samples_by_task", "run", "task", "value", "number"),
        Index("run_samples_by_step", "run", "step"),
    )
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    run: Mapped[str] = mapped_column(String(255))
    step: Mapped[int] = mapped_column(BIG)
    row: Mapped[int] = mapped_column(BIG)
    """Its place in the step's file."""
    task: Mapped[str] = mapped_column(String(40))
    value: Mapped[float | None] = mapped_column(Float)
    """None: masked."""
    failure: Mapped[str | None] = mapped_column(Text)
    question: Mapped[str] = mapped_column(Text)
    response: Mapped[str] = mapped_column(Text)
    """The beginnings of both."""
