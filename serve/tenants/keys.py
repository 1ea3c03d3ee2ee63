"""API keys: made once, shown once, kept as digests. A key belongs to a tenant and has scopes.

Digests are plain SHA-256: a key is 256 random bits, which no list of likely keys holds.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Key, Tenant
from serve.errors import ServiceError
from serve.tenants.quotas import Quotas

PREFIX = "tml-"
"""Tinker's client takes no key that begins otherwise."""
KEPT_S = 5.0
"""A key that was looked up is trusted for so long; a revoked one works no longer than this."""
Scope = Literal["train", "sample", "read", "metrics", "keys", "rate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    tenant_id: str
    key_name: str
    scopes: frozenset[str]
    quotas: Quotas


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_key(
    database: Database,
    tenant: str,
    name: str,
    scopes: Collection[str] = SCOPES,
    days: float | None = None,
    quotas: Quotas | None = None,
) -> str:
    """A new key of a tenant, who is made where there is none of that name; the key itself is kept nowhere.

    Args:
        database: where its digest goes.
        tenant: the tenant's name.
        name: the key's, for the audit log.
        scopes: what it may be used for.
        days: until it expires; None: never.
        quotas: the tenant's from now on; None: as they are.

    Raises:
        ValueError: a scope is unknown.
    """
    if unknown := set(scopes) - set(SCOPES):
        raise ValueError(f"there is no scope {sorted(unknown)[0]!r}; there are {', '.join(SCOPES)}")
    key, now = PREFIX + secrets.token_urlsafe(32), time.time()
    with database.writing() as session:
        owner = tenant_named(session, tenant)
        if quotas is not None:
            owner.quotas = quotas.model_dump()
        expires = None if days is None else now + days * 86_400
        session.add(Key(digest=digest_of(key), tenant_id=owner.id, name=name, scopes=sorted(scopes), created_at=now,
                        expires_at=expires, revoked_at=None))  # fmt: skip
    return key


def tenant_named(session: Session, name: str) -> Tenant:
    """A tenant by name, who is made where there is none."""
    owner = session.scalar(select(Tenant).where(Tenant.name == name))
    if owner is None:
        owner = Tenant(id=f"t{uuid.uuid4().hex[:16]}", name=name, quotas=Quotas().model_dump(), created_at=time.time())
        session.add(owner)
        session.flush()
    return owner


def revoke_keys(database: Database, tenant: str, name: str) -> int:
    """End the keys of a tenant that have this name; how many there were."""
    with database.writing() as session:
        found = session.scalars(
            select(Key).join(Tenant).where(Tenant.name == tenant, Key.name == name, Key.revoked_at.is_(None))
        ).all()
        for key in found:
            key.revoked_at = time.time()
        return len(found)


def revoke_key(session: Session, tenant_id: str, digest: str) -> str:
    """End one key of a tenant; its name.

    Raises:
        ServiceError: 404, the tenant has no such key that still works.
    """
    key = session.get(Key, digest)
    if key is None or key.tenant_id != tenant_id or key.revoked_at is not None:
        raise ServiceError(404, "there is no such key that still works", "no_key")
    key.revoked_at = time.time()
    return key.name


class KeyRing:
    """Looks keys up, and remembers the good ones for some seconds."""

    def __init__(self, database: Database) -> None:
        """Know none yet."""
        self._database = database
        self._kept: dict[str, tuple[float, Caller]] = {}

    def known(self, key: str) -> Caller | None:
        """Who has a key that was looked up just now; needs no database."""
        kept = self._kept.get(digest_of(key))
        return kept[1] if kept is not None and kept[0] > time.monotonic() else None

    def caller(self, key: str) -> Caller:
        """Who has this key.

        Raises:
            ServiceError: 401, nobody, any more.
        """
        digest, now = digest_of(key), time.time()
        with self._database.reading() as session:
            row = session.execute(select(Key, Tenant).join(Tenant).where(Key.digest == digest)).one_or_none()
            if row is None or row[0].revoked_at is not None or (row[0].expires_at or now + 1) <= now:
                self._kept.pop(digest, None)
                raise ServiceError(401, "this API key is unknown, revoked or expired: ask for a new one", "bad_key")
            quotas = Quotas.model_validate(row[1].quotas)
            caller = Caller(row[1].id, row[0].name, frozenset(row[0].scopes), quotas)
        if len(self._kept) > 10_000:
            self._kept.clear()
        self._kept[digest] = (time.monotonic() + KEPT_S, caller)
        return caller
