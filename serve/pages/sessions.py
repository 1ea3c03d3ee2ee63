"""Who is signed in: a cookie with 256 random bits, of which the database keeps the SHA-256, for a day.

Every browser has a cookie before it signs in too. A form carries a token that only who knows the cookie can make, so a
form of another site is none; the cookie itself is never sent along from there (SameSite=Strict).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import delete, select

from serve.database.connection import Database
from serve.database.page_tables import Annotator, PageSession
from serve.database.tables import Key, Tenant
from serve.tenants.keys import digest_of

SIGNED_IN_S = 86_400.0
RATING_S = 30 * 86_400.0
"""Annotators come back over weeks."""
COOKIE_BYTES = 32


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody with a key."""

    tenant_id: str
    tenant: str
    key_name: str
    key_digest: str
    scopes: frozenset[str]


def new_cookie() -> str:
    """A cookie that nobody knows."""
    return secrets.token_urlsafe(COOKIE_BYTES)


def form_token(cookie: str) -> str:
    """What the forms of this browser carry."""
    return hashlib.sha256(f"form:{cookie}".encode()).hexdigest()


def is_own_form(cookie: str, token: str) -> bool:
    """Whether a form was made for this browser."""
    return bool(cookie) and hmac.compare_digest(form_token(cookie).encode(), token.encode())


def sign_in(database: Database, key_digest: str | None = None, annotator_number: int | None = None) -> str:
    """A new cookie, for a key or an annotator."""
    cookie, now = new_cookie(), time.time()
    lasts = SIGNED_IN_S if key_digest is not None else RATING_S
    with database.writing() as session:
        session.execute(delete(PageSession).where(PageSession.expires_at < now))
        session.add(PageSession(digest=digest_of(cookie), key_digest=key_digest, annotator_number=annotator_number,
                                created_at=now, expires_at=now + lasts))  # fmt: skip
    return cookie


def sign_out(database: Database, cookie: str) -> None:
    """End a session."""
    with database.writing() as session:
        session.execute(delete(PageSession).where(PageSession.digest == digest_of(cookie)))


def signed_in(database: Database, cookie: str) -> SignedIn | None:
    """Who this is; nobody once the key was revoked or expired."""
    now = time.time()
    with database.reading() as session:
        row = session.execute(
            select(Key, Tenant)
            .join(PageSession, PageSession.key_digest == Key.digest)
            .join(Tenant, Tenant.id == Key.tenant_id)
            .where(PageSession.digest == digest_of(cookie), PageSession.expires_at > now, Key.revoked_at.is_(None))
        ).one_or_none()
    if row is None or (row[0].expires_at is not None and row[0].expires_at <= now):
        return None
    key, tenant = row
    return SignedIn(tenant.id, tenant.name, key.name, key.digest, frozenset(key.scopes))


def rater(database: Database, cookie: str) -> int | None:
    """The number of the annotator who has this cookie."""
    with database.reading() as session:
        return session.scalar(
            select(PageSession.annotator_number).where(
                PageSession.digest == digest_of(cookie), PageSession.expires_at > time.time()
            )
        )


def annotator_of(database: Database, secret: str) -> Annotator | None:
    """Whose link this is."""
    with database.reading() as session:
        return session.scalar(select(Annotator).where(Annotator.digest == digest_of(secret)))
