"""Making a set of answers and its annotators' links; finding the sets of a tenant.

Who rates what in which order is decided here once: a row for every item and annotator, so that every item has exactly
`RATERS` ratings when all are given.
"""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.page_tables import Annotator, PageSession, Rating, RatingImage, RatingItem, RatingSet
from serve.errors import ServiceError
from serve.rating.answers import Answer
from serve.rating.images import picture
from serve.rating.sheet import sheet_for
from serve.tenants.audit import record
from serve.tenants.keys import digest_of

RATERS = 3
"""Annotators of an item (AutoDriveRL, Appendix I)."""
DEFAULT_COUNT = 300
MOST = 2000
"""Most answers of a set, and most annotators are `MOST_RATERS`."""
MOST_RATERS = 50
MOST_IMAGES = 64
"""Of one answer."""
AT_ONCE = 20
"""Answers whose images are written in one transaction."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new set, and the secret of each annotator's link: shown once, kept nowhere."""

    set_id: str
    items: int
    secrets: dict[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a set is."""

    set: RatingSet
    items: int
    given: dict[str, int]
    """Annotator to ratings given."""
    asked: dict[str, int]
    """Annotator to ratings asked for."""
    seconds: dict[str, float | None]
    """Annotator to the median time of a rating."""

    @property
    def missing(self) -> int:
        """Ratings that are still to be given."""
        return sum(self.asked.values()) - sum(self.given.values())


def make_set(
    database: Database,
    tenant_id: str,
    name: str,
    answers: Sequence[Answer],
    annotators: Sequence[str],
    *,
    seed: int,
    rubric: str,
    source: str,
    paths_from: Path | None,
) -> Made:
    """Make a set of these answers.

    Args:
        database: where it is kept.
        tenant_id: whose it is.
        name: for people.
        answers: that were drawn.
        annotators: at least three names.
        seed: of every annotator's order, and of who rates what where there are more than three.
        rubric: as `sheet_for` takes it.
        source: where the answers are from, in words.
        paths_from: as `picture` takes it.

    Raises:
        ServiceError: 400, a name, the annotators, or an image cannot be used.
    """
    names = checked_names(name, annotators)
    if not answers or len(answers) > MOST:
        raise ServiceError(400, f"a set has 1 to {MOST} answers, not {len(answers)}", "bad_count")
    if any(len(answer.images) > MOST_IMAGES for answer in answers):
        raise ServiceError(400, f"an answer has at most {MOST_IMAGES} images", "too_many_images")
    rubrics: dict[str, Any] = {}
    labels = []
    for answer in answers:
        label, sheet = sheet_for(answer, rubric)
        rubrics[label] = sheet
        labels.append(label)
    digests = _keep_images(database, answers, paths_from)
    links = {one: secrets.token_urlsafe(32) for one in names}
    with database.writing() as session:
        made = RatingSet(id=f"s{uuid.uuid4().hex}", tenant_id=tenant_id, name=name.strip(), source=source, seed=seed,
                         rubrics=rubrics,  created_at=time.time())  # fmt: skip
        session.add(made)
        session.flush()
        people = [Annotator(set_number=made.number, name=one, digest=digest_of(links[one])) for one in names]
        items = [
            RatingItem(set_number=made.number, name=answer.name, task=answer.task, rubric=label,
                       shown=_shown(answer, images), scores=answer.scores)
            for answer, label, images in zip(answers, labels, digests, strict=True)
        ]  # fmt: skip
        session.add_all([*people, *items])
        session.flush()
        session.add_all(_asked(items, people, seed))
        record(session, "make_rating_set", made.id, tenant_id=tenant_id, outcome=f"{len(items)} answers")
    return Made(made.id, len(items), links)


def checked_names(name: str, annotators: Sequence[str]) -> list[str]:
    """The annotators' names, stripped.

    Raises:
        ServiceError: 400, too few or too many, one twice, or one is empty or too long.
    """
    names = [one.strip() for one in annotators if one.strip()]
    if not 1 <= len(name.strip()) <= 200:
        raise ServiceError(400, "the set's name must have 1 to 200 letters", "bad_name")
    if not RATERS <= len(names) <= MOST_RATERS:
        raise ServiceError(
            400,
            f"name {RATERS} to {MOST_RATERS} annotators, not {len(names)}: three rate every answer",
            "raters",
        )
    if len({one.lower() for one in names}) < len(names):
        raise ServiceError(400, "two annotators have the same name: each link is one person's", "raters")
    if any(len(one) > 100 or not one.isprintable() for one in names):
        raise ServiceError(400, "an annotator's name has at most 100 letters, on one line", "raters")
    return names


def own_set(session: Session, tenant_id: str, set_id: str) -> RatingSet:
    """A set of this tenant.

    Raises:
        ServiceError: 404.
    """
    found = session.scalar(select(RatingSet).where(RatingSet.id == set_id, RatingSet.tenant_id == tenant_id))
    if found is None:
        raise ServiceError(404, "there is no such set of answers", "no_set")
    return found


def standing(session: Session, found: RatingSet) -> Standing:
    """How far a set is."""
    rows = session.execute(
        select(Annotator.name, Rating.value.is_not(None), Rating.seconds)
        .join(Rating, Rating.annotator_number == Annotator.number)
        .where(Annotator.set_number == found.number)
        .order_by(Annotator.number)
    ).all()
    asked: dict[str, int] = {}
    given: dict[str, int] = {}
    times: dict[str, list[float]] = {}
    for name, done, seconds in rows:
        asked[name] = asked.get(name, 0) + 1
        given[name] = given.get(name, 0) + done
        times.setdefault(name, []).extend([seconds] if done and seconds is not None else [])
    items = session.scalar(select(func.count()).where(RatingItem.set_number == found.number)) or 0
    return Standing(found, items, given, asked, {name: _median(of) for name, of in times.items()})


def new_link(database: Database, tenant_id: str, set_id: str, annotator: str) -> str:
    """A new secret for an annotator who lost the link; the old one works no longer.

    Raises:
        ServiceError: 404, no such set or annotator.
    """
    secret = secrets.token_urlsafe(32)
    with database.writing() as session:
        found = own_set(session, tenant_id, set_id)
        person = session.scalar(
            select(Annotator).where(Annotator.set_number == found.number, Annotator.name == annotator)
        )
        if person is None:
            raise ServiceError(404, "this set has no such annotator", "no_annotator")
        person.digest = digest_of(secret)
        session.execute(delete(PageSession).where(PageSession.annotator_number == person.number))
        record(session, "new_rating_link", f"{set_id}/{annotator}", tenant_id=tenant_id)
    return secret


def _asked(items: Sequence[RatingItem], people: Sequence[Annotator], seed: int) -> list[Rating]:
    """Three annotators for every item, as many for each as can be, and each annotator's own order."""
    draw = random.Random(f"{seed}/who")
    load = {person.number: 0 for person in people}
    own: dict[int, list[RatingItem]] = {person.number: [] for person in people}
    for item in items:
        for person in sorted(people, key=lambda one: (load[one.number], draw.random()))[:RATERS]:
            load[person.number] += 1
            own[person.number].append(item)
    asked = []
    for person in people:
        mine = own[person.number]
        random.Random(f"{seed}/{person.name}").shuffle(mine)
        asked += [
            Rating(item_number=item.number, annotator_number=person.number, place=place, revision=0, points={})
            for place, item in enumerate(mine)
        ]
    return asked


def _keep_images(database: Database, answers: Sequence[Answer], paths_from: Path | None) -> list[dict[str, str]]:
    """Camera to digest for each answer; the images are in the database when this returns."""
    found: list[dict[str, str]] = []
    known: dict[str, str] = {}
    for start in range(0, len(answers), AT_ONCE):
        pictures = {}
        for answer in answers[start : start + AT_ONCE]:
            digests = {}
            for camera, given in answer.images.items():
                if given not in known:
                    made = picture(given, f"{answer.name[:100]}: image {camera}", paths_from=paths_from)
                    known[given], pictures[made.digest] = made.digest, made
                digests[camera] = known[given]
            found.append(digests)
        if pictures:
            with database.writing() as session:
                there = set(session.scalars(select(RatingImage.digest).where(RatingImage.digest.in_(pictures))))
                session.add_all(
                    RatingImage(digest=one.digest, media_type=one.media_type, data=one.data)
                    for one in pictures.values()
                    if one.digest not in there
                )
    return found


def _shown(answer: Answer, images: Mapping[str, str]) -> dict[str, Any]:
    return {
        "question": answer.question,
        "choices": answer.choices,
        "reference": answer.reference,
        "answer": answer.answer,
        "images": dict(images),
    }


def _median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
