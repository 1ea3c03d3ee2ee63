"""Jobs as rows: asked for, found, paused, cancelled; and as OpenAI's clients read them. Nothing runs here."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.database.tables import Job, JobEvent, StoredFile, Weights
from serve.errors import ServiceError
from serve.jobs.files import OPEN_STATES, RETRY_WINDOW_S, own_file
from serve.jobs.requests import JobRequest
from serve.jobs.results import add_event, metrics_of
from serve.tenants.keys import Caller

STATUS = {"starting": "queued", "stopping": "running"}
"""OpenAI's word for a state of ours that its clients do not know."""
ENDED = ("succeeded", "failed", "cancelled")


def known_job(session: Session, tenant_id: str, fingerprint: str, key: str | None, again: bool) -> Job | None:
    """The job that this request made before, if it is one that was sent before.

    Args:
        session: to look with.
        tenant_id: whose.
        fingerprint: of the request's body.
        key: the idempotency key, where the client gave one.
        again: whether the client says that it asks once more.

    Raises:
        ServiceError: 422, the key was given with another body.
    """
    own = select(Job).where(Job.tenant_id == tenant_id)
    if key is not None:
        found = session.scalar(own.where(Job.idempotency_key == key))
        if found is not None and found.fingerprint != fingerprint:
            raise ServiceError(
                422, "this Idempotency-Key was sent with another body: take a new one", "idempotency_mismatch"
            )
        return found
    if not again:
        return None
    recent = Job.created_at > time.time() - RETRY_WINDOW_S
    return session.scalar(own.where(Job.fingerprint == fingerprint, recent).order_by(Job.number.desc()).limit(1))


@dataclass(frozen=True, slots=True)
class Posted:
    """A request for a job, as it came."""

    caller: Caller
    asked: JobRequest
    body: bytes
    key: str | None
    """The idempotency key, where the client gave one."""
    again: bool
    """Whether the client says that it asks once more."""

    @property
    def fingerprint(self) -> str:
        """What it is known by."""
        return hashlib.sha256(self.body).hexdigest()

    def known(self, session: Session) -> Job | None:
        """The job that it made before; raises as `known_job`."""
        return known_job(session, self.caller.tenant_id, self.fingerprint, self.key, self.again)

    def file(self, session: Session) -> StoredFile:
        """The file that it names.

        Raises:
            ServiceError: 404, it is not the tenant's.
        """
        return own_file(session, self.caller.tenant_id, self.asked.training_file, "training_file")


def new_job_id() -> str:
    """One that no job has."""
    return f"ftjob-{uuid.uuid4().hex[:24]}"


def add_job(session: Session, posted: Posted, job_id: str, recipe: str) -> Job:
    """A new job, in line; or the one that the same request made meanwhile.

    Raises:
        ServiceError: 404, the file is gone; 429, beyond the tenant's quota.
    """
    if (known := posted.known(session)) is not None:
        return known
    caller = posted.caller
    posted.file(session)
    count = session.scalar(
        select(func.count()).select_from(Job).where(Job.tenant_id == caller.tenant_id, Job.state.in_(OPEN_STATES))
    )
    if (count or 0) >= caller.quotas.jobs:
        raise ServiceError(
            429, f"{count} jobs have not ended and the quota is {caller.quotas.jobs} (jobs): wait, or cancel one",
            "insufficient_quota",
        )  # fmt: skip
    job = Job(id=job_id, tenant_id=caller.tenant_id, idempotency_key=posted.key, fingerprint=posted.fingerprint,
              asked=json.loads(posted.asked.model_dump_json(exclude_none=True)), recipe=recipe, state="queued",
              wanted="run", attempt=0, losses=0, lines_read=0, model=None, error=None, created_at=time.time(),
              started_at=None, finished_at=None)  # fmt: skip
    session.add(job)
    session.flush()
    add_event(session, job_id, "created", "the job is in line")
    return job


def own_job(session: Session, tenant_id: str, job_id: str) -> Job:
    """A job of the tenant's.

    Raises:
        ServiceError: 404.
    """
    job = session.scalar(select(Job).where(Job.id == job_id, Job.tenant_id == tenant_id))
    if job is None:
        raise ServiceError(404, f"there is no job {job_id[:100]!r}: list yours", "no_job", "fine_tuning_job_id")
    return job


def want(session: Session, job: Job, wanted: str) -> None:
    """Say that a job is to `run`, `pause` or `cancel`; the same thing twice is once.

    Raises:
        ServiceError: 400, it has ended, or is being cancelled.
    """
    if (job.state == "cancelled" or job.wanted == "cancel") and wanted == "cancel":
        return
    if job.state in ENDED or job.wanted == "cancel":
        what = f"has ended ({job.state})" if job.state in ENDED else "is being cancelled"
        raise ServiceError(400, f"job {job.id} {what}: it cannot {wanted} any more", "job_ended")
    if wanted == "run" and job.wanted == "run" and job.state != "paused":
        return
    job.wanted = wanted
    if job.state == "queued" and wanted != "run":
        job.state = "paused" if wanted == "pause" else "cancelled"
    elif job.state == "paused":
        job.state = {"run": "queued", "cancel": "cancelled"}.get(wanted, "paused")
    if job.state == "cancelled":
        job.finished_at = time.time()
    number = session.scalar(select(func.count()).select_from(JobEvent).where(JobEvent.job_id == job.id))
    add_event(session, job.id, f"asked {number}", {"run": "resumed", "pause": "to be paused",
                                                   "cancel": "to be cancelled"}[wanted])  # fmt: skip


def described(job: Job) -> dict[str, Any]:
    """A job as OpenAI's clients read it; `status` may also be `paused`."""
    asked = JobRequest.model_validate(job.asked)
    own = asked.asked
    simple = {"n_epochs": own.n_epochs, "batch_size": own.batch_size,
              "learning_rate_multiplier": own.learning_rate_multiplier}  # fmt: skip
    error = {"code": "run_failed", "message": job.error, "param": None} if job.error else None
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if job.finished_at is None else int(job.finished_at),
        "estimated_finish": None,
        "model": asked.model,
        "fine_tuned_model": job.model if job.state == "succeeded" else None,
        "organization_id": job.tenant_id,
        "status": STATUS.get(job.state, job.state),
        "training_file": asked.training_file,
        "validation_file": None,
        "result_files": [],
        "trained_tokens": None,
        "hyperparameters": simple if asked.grader is None else {},
        "method": job.asked.get("method") or {"type": "supervised"},
        "seed": asked.seed,
        "suffix": asked.suffix,
        "metadata": asked.metadata,
        "integrations": [],
        "error": error,
    }


def model_name(job: Job, base_name: str, step: int | None = None) -> str:
    """What a job's result is called, or its checkpoint of a step."""
    base = base_name.rstrip("/").rpartition("/")[2]
    name = f"ft:{base}:{job.asked.get('suffix') or ''}:{job.id.removeprefix('ftjob-')}"
    return name if step is None else f"{name}:ckpt-step-{step}"


def event_body(event: JobEvent) -> dict[str, Any]:
    """An event as OpenAI's clients read it."""
    return {
        "id": f"ftevent-{event.number}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": event.level,
        "message": event.message,
        "type": event.kind,
        "data": event.data,
    }


def checkpoint_body(session: Session, job: Job, row: Weights) -> dict[str, Any]:
    """A checkpoint as OpenAI's clients read it."""
    step = int(row.about.get("step", 0))
    event = session.scalar(select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.source == f"step {step}"))
    return {
        "id": f"ftckpt-{row.number}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(row.created_at),
        "fine_tuned_model_checkpoint": row.name or row.path,
        "fine_tuning_job_id": job.id,
        "metrics": metrics_of(event),
        "step_number": step,
    }
