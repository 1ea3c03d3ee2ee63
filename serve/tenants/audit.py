"""The audit log: who did what to what, and how it ended. Written in the transaction of the deed itself.

Holds names, ids and sentences; never a key, a prompt or an answer.
"""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from serve.database.tables import AuditEntry


def record(
    session: Session,
    action: str,
    subject: str,
    *,
    tenant_id: str | None = None,
    key_name: str | None = None,
    request_id: str | None = None,
    outcome: str = "done",
) -> None:
    """Add an entry."""
    entry = AuditEntry(at=time.time(), tenant_id=tenant_id, key_name=key_name, request_id=request_id, action=action,
                       subject=subject[:400], outcome=outcome[:400])  # fmt: skip
    session.add(entry)
