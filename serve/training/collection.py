"""`Collector`: removes what need not be kept: by age, by expiry, or because nothing refers to it. Safe at any moment.

Rows go first and files after, so that what is listed is there. What a model needs to be brought back is never removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete, exists, or_, select, update
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import ClientSession, Image, Model, Request, Sampler, Weights
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.settings import TrainingServiceSettings
from serve.training.places import Places, remove

HOUR_S, DAY_S = 3600.0, 86_400.0
ORPHAN_S = 3600.0
"""A folder that has no row for so long was left by a server that died while it wrote."""


class Collector:
    """Applies the policy of `serve.training`."""

    def __init__(
        self,
        database: Database,
        places: Places,
        settings: TrainingServiceSettings,
        metrics: ServiceMetrics,
        forget: Callable[[int], None] | None = None,
    ) -> None:
        """`forget` takes a model out of the learner."""
        self._database, self._places, self._settings = database, places, settings
        self._metrics, self._forget = metrics, forget

    def collect(self) -> dict[str, int]:
        """Remove what may go; how much of each kind."""
        now, counts = time.time(), dict[str, int]()
        folders: list[str] = []
        ended: list[int] = []
        with self._database.writing() as session:
            counts["sessions"] = self._end_sessions(session, now)
            counts["models"] = self._end_models(session, ended)
            counts["weights"] = self._expire_weights(session, now, folders)
            counts["requests"] = self._forget_bodies(session, now)
            counts["images"] = self._forget_images(session, now)
        for number in ended:
            if self._forget is not None:
                self._forget(number)
        for folder in folders:
            remove(Path(folder))
        counts["folders"] = len(folders) + self._remove_orphans(now)
        for what, count in counts.items():
            self._metrics.collected.labels(what).inc(count)
        tell("collected", **counts)
        return counts

    def _end_sessions(self, session: Session, now: float) -> int:
        silent = now - HOUR_S * self._settings.idle_hours
        busy = exists().where(Request.state == "queued", Request.tenant_id == ClientSession.tenant_id)
        result = session.execute(
            update(ClientSession)
            .where(ClientSession.finished_at.is_(None), ClientSession.seen_at < silent, ~busy)
            .values(finished_at=now)
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # of every UPDATE

    def _end_models(self, session: Session, ended: list[int]) -> int:
        finished = select(ClientSession.id).where(ClientSession.finished_at.is_not(None))
        waiting = exists().where(Request.subject == Model.id, Request.state == "queued")
        rows = session.scalars(
            select(Model).where(Model.session_id.in_(finished), Model.state == "ready", ~waiting)
        ).all()
        for model in rows:
            model.state = "ended"
            ended.append(model.number)
        return len(rows)

    def _expire_weights(self, session: Session, now: float, folders: list[str]) -> int:
        """Expired checkpoints, ephemeral ones of ended sessions, and ephemeral ones that were not asked for long."""
        silent = now - HOUR_S * self._settings.idle_hours
        finished = select(ClientSession.id).where(ClientSession.finished_at.is_not(None))
        asked = exists().where(Request.subject == Sampler.id, Request.asked_at > silent)
        in_use = exists().where(Sampler.weights_path == Weights.path, or_(asked, Sampler.created_at > silent),
                                Sampler.session_id.not_in(finished))  # fmt: skip
        rows = session.scalars(
            select(Weights).where(
                or_(Weights.expires_at < now, ~Weights.named & ~in_use & (Weights.created_at < now - 60))
            )
        ).all()
        for row in rows:
            folders.append(row.folder)
            session.delete(row)
        return len(rows)

    def _forget_bodies(self, session: Session, now: float) -> int:
        """Bodies and results of requests that ended long ago, unless a model would need them to come back."""
        old = now - DAY_S * self._settings.answer_days
        needed = exists().where(Model.id == Request.subject, Request.learns, Request.seq > Model.snapshot,
                                Model.state == "ready")  # fmt: skip
        result = session.execute(
            update(Request)
            .where(Request.ended_at < old, Request.body.is_not(None) | Request.answer.is_not(None), ~needed)
            .values(body=None, answer=None)
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # of every UPDATE

    def _forget_images(self, session: Session, now: float) -> int:
        """Images that were last shown before every request whose body is still kept."""
        oldest = session.scalar(
            select(Request.asked_at).where(Request.body.is_not(None)).order_by(Request.asked_at).limit(1)
        )
        before = min(now - DAY_S * self._settings.answer_days, oldest if oldest is not None else now) - HOUR_S
        digests = session.scalars(select(Image.digest).where(Image.used_at < before)).all()
        for digest in digests:
            (self._places.images / digest).unlink(missing_ok=True)
        session.execute(delete(Image).where(Image.used_at < before))
        return len(digests)

    def _remove_orphans(self, now: float) -> int:
        with self._database.reading() as session:
            known = set(session.scalars(select(Weights.folder)))
            known |= {folder for folder in session.scalars(select(Model.snapshot_folder)) if folder}
        count = 0
        for folder in [*self._places.weights.iterdir(), *self._places.snapshots.glob("*/*")]:
            if str(folder) not in known and folder.stat().st_mtime < now - ORPHAN_S:
                remove(folder)
                count += 1
        return count
