"""Quotas: how much a tenant may use of what costs, and what was used. One request's bounds lie elsewhere."""

from __future__ import annotations

import time

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.database.tables import Model, Usage, Weights
from serve.errors import UserError

MIB = 2**20


class Quotas(BaseModel):
    """What a tenant may use; `python -m serve.manage key --quota name=number` sets one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens_per_day: int = Field(100_000_000, ge=0)
    """Positions trained on or sampled from, and tokens sampled, on one day (UTC)."""
    images_per_day: int = Field(10_000_000, ge=0)
    """Images shown, each time that one is."""
    models: int = Field(16, ge=0)
    """Models whose session has not ended."""
    storage_mib: int = Field(100_000, ge=0)
    """Checkpoints that are kept."""
    file_mib: int = Field(10_000, ge=0)
    """Files that are kept."""
    jobs: int = Field(16, ge=0)
    """Fine-tuning jobs that have not ended."""
    requests_per_minute: int = Field(6_000, ge=1)
    """Calls of all kinds; one more is answered with 429."""


def today() -> str:
    """The day that is counted in."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def charge(session: Session, tenant_id: str, tokens: int, images: int) -> None:
    """Count what a tenant used."""
    row = session.get(Usage, (tenant_id, today()), with_for_update=True)
    if row is None:
        session.add(Usage(tenant_id=tenant_id, day=today(), tokens=tokens, images=images))
    else:
        row.tokens, row.images = row.tokens + tokens, row.images + images


def check_usage(session: Session, tenant_id: str, quotas: Quotas, tokens: int, images: int) -> None:
    """Refuse what would go beyond the day's quotas.

    Raises:
        UserError: says which, and how much is left.
    """
    row = session.get(Usage, (tenant_id, today()))
    used = (row.tokens, row.images) if row is not None else (0, 0)
    wanted = (tokens, images)
    for name, quota, had, more in zip(
        ("tokens", "images"), (quotas.tokens_per_day, quotas.images_per_day), used, wanted, strict=True
    ):
        if had + more > quota:
            raise UserError(
                f"this request needs {more:,} {name}, and {max(0, quota - had):,} of today's {quota:,} are left "
                f"({name}_per_day): wait for the next day (UTC), or ask for a larger quota"
            )


def check_models(session: Session, tenant_id: str, quotas: Quotas) -> None:
    """Refuse one model more than the quota.

    Raises:
        UserError: says how many there are.
    """
    count = session.scalar(
        select(func.count()).select_from(Model).where(Model.tenant_id == tenant_id, Model.state.in_(("asked", "ready")))
    )
    if (count or 0) >= quotas.models:
        raise UserError(
            f"{count} models exist and the quota is {quotas.models} (models): finish a session, or ask for more"
        )


def check_storage(session: Session, tenant_id: str, quotas: Quotas) -> None:
    """Refuse another checkpoint where those that are kept fill the quota.

    Raises:
        UserError: says how much there is.
    """
    stored = session.scalar(select(func.sum(Weights.bytes)).where(Weights.tenant_id == tenant_id)) or 0
    if stored >= quotas.storage_mib * MIB:
        raise UserError(
            f"checkpoints take {stored / MIB:.1f} MiB and the quota is {quotas.storage_mib} MiB (storage_mib): delete "
            "some, or let them expire with ttl_seconds"
        )
