"""The tables of the service. Every promise to a client is a row here before it is acknowledged.

Times are seconds since 1970. Nothing here knows HTTP, tenants' rules or the wire; who adds a table adds a migration.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BIG = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows by itself in INTEGER columns alone."""


class Base(DeclarativeBase):
    """All tables; JSON columns hold what no query looks into."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012  # SQLAlchemy reads it once


class Tenant(Base):
    """Who has keys, models and files; neither sees the other's."""

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    quotas: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(Float)


class Key(Base):
    """An API key, by its digest alone."""

    __tablename__ = "keys"
    __table_args__ = (Index("keys_by_age", "tenant_id", "created_at", "digest"),)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[list[str]]
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class ClientSession(Base):
    """A client's session: what its models and samplers are numbered in."""

    __tablename__ = "sessions"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    idempotency_key: Mapped[str] = mapped_column(String(200))
    about: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(Float)
    seen_at: Mapped[float] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)


class Model(Base):
    """A training run: an adapter with its optimizer."""

    __tablename__ = "models"
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(200), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    base_model: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, Any]]
    """`rank`, `seed`, `targets`: what its first weights are made of."""
    about: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20))
    """`asked`, `ready`, `failed`."""
    applied: Mapped[int] = mapped_column(BIG)
    """The last number whose effect is acknowledged; what is lower and not here will never be applied."""
    snapshot: Mapped[int] = mapped_column(BIG)
    """The last number whose effect `snapshot_folder` holds; -1: the first weights."""
    snapshot_folder: Mapped[str | None] = mapped_column(Text)
    steps: Mapped[int] = mapped_column(BIG)
    created_at: Mapped[float] = mapped_column(Float)
    asked_at: Mapped[float] = mapped_column(Float)


class Request(Base):
    """What a client asked for under a number of a model or a sampler, and what became of it: a future."""

    __tablename__ = "requests"
    __table_args__ = (
        UniqueConstraint("subject", "seq"),
        Index("requests_by_state", "state", "number"),
        Index("requests_by_end", "ended_at"),
    )
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(260), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    subject: Mapped[str] = mapped_column(String(200))
    """The id of the model or sampler."""
    seq: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(40))
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what was asked: the same again is the same request, something else is refused."""
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    """What is needed to do it, and to do it again."""
    state: Mapped[str] = mapped_column(String(20))
    """`queued`, `done`, `failed`."""
    media_type: Mapped[str | None] = mapped_column(String(60))
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    learns: Mapped[bool]
    """Whether it changes the model, so that it must be done again after a loss."""
    asked_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)


class Image(Base):
    """An image of some request, once for all of them."""

    __tablename__ = "images"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)
    used_at: Mapped[float] = mapped_column(Float, index=True)


class Weights(Base):
    """A checkpoint that a client asked for: of training, or for samplers."""

    __tablename__ = "weights"
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    path: Mapped[str] = mapped_column(String(400), unique=True)
    name: Mapped[str | None] = mapped_column(String(400), unique=True)
    """What OpenAI's clients call it; None: by its path."""
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    model_id: Mapped[str] = mapped_column(String(200), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    """`training` or `sampler`."""
    named: Mapped[bool]
    """False: an ephemeral one, which lives as long as its session."""
    folder: Mapped[str] = mapped_column(Text)
    digests: Mapped[dict[str, Any]]
    """SHA-256 of each file."""
    bytes: Mapped[int] = mapped_column(BIG)
    settings: Mapped[dict[str, Any]]
    about: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)


class Sampler(Base):
    """A sampling session: the base or one checkpoint, asked under rising numbers."""

    __tablename__ = "samplers"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id"), index=True)
    base_model: Mapped[str] = mapped_column(Text)
    weights_path: Mapped[str | None] = mapped_column(String(400))
    weights_number: Mapped[int | None] = mapped_column(BIG)
    created_at: Mapped[float] = mapped_column(Float)


class Usage(Base):
    """What a tenant used on one day (UTC)."""

    __tablename__ = "usage"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    tokens: Mapped[int] = mapped_column(BIG)
    images: Mapped[int] = mapped_column(BIG)


class AuditEntry(Base):
    """Something that was done, or refused, and by whom."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    tenant_id: Mapped[str | None] = mapped_column(String(64), index=True)
    key_name: Mapped[str | None] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)


class Lease(Base):
    """The right to work on this database: one server at a time."""

    __tablename__ = "lease"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(BIG)
    expires_at: Mapped[float] = mapped_column(Float)


class StoredFile(Base):
    """A file that a tenant uploaded, or that a job left."""

    __tablename__ = "files"
    __table_args__ = (UniqueConstraint("tenant_id", "idempotency_key"),)
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(400))
    purpose: Mapped[str] = mapped_column(String(40))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of what was uploaded."""
    bytes: Mapped[int] = mapped_column(BIG)
    folder: Mapped[str] = mapped_column(Text)
    """Holds it as it came, and the samples that were read from it."""
    about: Mapped[dict[str, Any]]
    """How many samples of which task, and which entries were left out."""
    created_at: Mapped[float] = mapped_column(Float)


class Job(Base):
    """A fine-tuning job, and how far it came. What a client asked for is a row before it is acknowledged."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("jobs_by_state", "state", "number"),
    )
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of the request's body."""
    asked: Mapped[dict[str, Any]]
    """The request."""
    recipe: Mapped[str] = mapped_column(Text)
    """What its runs are started with, in YAML."""
    state: Mapped[str] = mapped_column(String(20))
    """`queued`, `starting`, `running`, `stopping`, `paused`, `succeeded`, `failed`, `cancelled`."""
    wanted: Mapped[str] = mapped_column(String(20))
    """What the client wants of it: `run`, `pause` or `cancel`."""
    attempt: Mapped[int] = mapped_column(Integer)
    """How often it was submitted; its name on the cluster is made of its id and this."""
    losses: Mapped[int] = mapped_column(Integer)
    """How often its run was lost through no fault of its own."""
    lines_read: Mapped[int] = mapped_column(BIG)
    """Of the metrics of its run."""
    model: Mapped[str | None] = mapped_column(String(400))
    """What its result is called, once it is there."""
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)


class JobEvent(Base):
    """Something that happened to a job; the same thing twice is one event."""

    __tablename__ = "job_events"
    __table_args__ = (UniqueConstraint("job_id", "source"),)
    number: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    source: Mapped[str] = mapped_column(String(80))
    """Where it was read: a state, or a line of the run's metrics."""
    level: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(10))
    """`message` or `metrics`."""
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(Float)
