"""`Files`: what tenants upload, on disk and in the database; a file is there whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Job, StoredFile
from serve.errors import ServiceError, UserError
from serve.jobs.uploads import RAW, read_upload
from serve.settings import ServeSettings
from serve.tenants.keys import Caller
from serve.training.places import Places

MIB = 2**20
PURPOSES = ("fine-tune",)
RETRY_WINDOW_S = 900.0
"""A client that was not answered asks again for minutes: the same thing asked again by then is the same request."""
OPEN_STATES = ("queued", "starting", "running", "stopping", "paused")
"""Of jobs whose end is still to come."""


class Files:
    """A part of the service (`serve.training.service.Part`)."""

    def __init__(self, database: Database, places: Places, settings: ServeSettings) -> None:
        """Below the service's folder."""
        self._database, self._settings = database, settings
        self.root = places.root / "files"
        self.root.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Remove what an earlier server left half-written."""
        with self._database.reading() as session:
            known = set(session.scalars(select(StoredFile.folder)))
        for folder in self.root.iterdir():
            if str(folder) not in known:
                shutil.rmtree(folder, ignore_errors=True)

    async def stop(self) -> None:
        """Nothing is held."""

    def draft(self) -> Path:
        """A new folder for a file that arrives."""
        folder = self.root / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def keep(
        self, caller: Caller, folder: Path, name: str, purpose: str, idempotency_key: str | None, *, again: bool
    ) -> StoredFile:
        """Check a file that arrived in `draft`, and make it the tenant's; takes its time: call in a thread.

        Args:
            caller: whose it becomes.
            folder: as `draft` gave it, with the file in it.
            name: as the client calls it.
            purpose: as the client says.
            idempotency_key: as the client gave one.
            again: whether the client says that it asks once more.

        Raises:
            ServiceError: 400: the purpose is not served, or lines are faulty; 429: beyond the tenant's quota.
        """
        try:
            row = self._row(caller, folder, name, purpose, idempotency_key)
            if (known := self._known(row, again)) is None:
                row.about = read_upload(folder, int(self._settings.max_megapixels * 1e6))
                _to_disk(folder)
                known = self._added(row, caller, again)
        except UserError as error:
            raise ServiceError(400, f"{name}: {error}", "invalid_file", "file") from None
        finally:
            if folder.exists() and not self._is_kept(folder):
                shutil.rmtree(folder, ignore_errors=True)
        return known

    def _row(self, caller: Caller, folder: Path, name: str, purpose: str, key: str | None) -> StoredFile:
        if purpose not in PURPOSES:
            raise ServiceError(
                400, f"purpose {purpose[:40]!r} is not served, only {', '.join(PURPOSES)}", "invalid_request", "purpose"
            )
        raw = folder / RAW
        with raw.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(id=f"file-{uuid.uuid4().hex[:24]}", tenant_id=caller.tenant_id, idempotency_key=key,
                          name=name[:400], purpose=purpose, digest=digest, bytes=raw.stat().st_size,
                          folder=str(folder), about={}, created_at=time.time())  # fmt: skip

    def _known(self, row: StoredFile, again: bool) -> StoredFile | None:
        """The file that this request made before, if it is one that was sent before."""
        with self._database.reading() as session:
            return known_file(session, row, again)

    def _added(self, row: StoredFile, caller: Caller, again: bool) -> StoredFile:
        with self._database.writing() as session:
            if (known := known_file(session, row, again)) is not None:  # its first sending ended meanwhile
                return known
            stored = session.scalar(select(func.sum(StoredFile.bytes)).where(StoredFile.tenant_id == caller.tenant_id))
            if (stored or 0) + row.bytes > caller.quotas.file_mib * MIB:
                raise ServiceError(
                    429, f"files take {(stored or 0) / MIB:.1f} MiB and the quota is {caller.quotas.file_mib} MiB "
                    "(file_mib): delete some", "insufficient_quota",
                )  # fmt: skip
            session.add(row)
        return row

    def _is_kept(self, folder: Path) -> bool:
        with self._database.reading() as session:
            return session.scalar(select(StoredFile.id).where(StoredFile.folder == str(folder))) is not None

    @property
    def max_bytes(self) -> int:
        """Largest file."""
        return int(self._settings.jobs.max_file_mib * MIB)


def known_file(session: Session, row: StoredFile, again: bool) -> StoredFile | None:
    """The tenant's file of the same idempotency key, or the same content sent once more.

    Raises:
        ServiceError: 422, the key was given with another content.
    """
    own = select(StoredFile).where(StoredFile.tenant_id == row.tenant_id)
    if row.idempotency_key is not None:
        found = session.scalar(own.where(StoredFile.idempotency_key == row.idempotency_key))
        if found is not None and (found.digest, found.name) != (row.digest, row.name):
            raise ServiceError(
                422, "this Idempotency-Key was sent with another file: take a new one", "idempotency_mismatch"
            )
        return found
    if not again:
        return None
    return session.scalar(
        own.where(
            StoredFile.digest == row.digest,
            StoredFile.name == row.name,
            StoredFile.created_at > time.time() - RETRY_WINDOW_S,
        )
        .order_by(StoredFile.number.desc())
        .limit(1)
    )


def own_file(session: Session, tenant_id: str, file_id: str, parameter: str | None = None) -> StoredFile:
    """A file of the tenant's.

    Raises:
        ServiceError: 404.
    """
    row = session.scalar(select(StoredFile).where(StoredFile.id == file_id, StoredFile.tenant_id == tenant_id))
    if row is None:
        raise ServiceError(404, f"there is no file {file_id[:100]!r}: upload it first", "no_file", parameter)
    return row


def refuse_in_use(session: Session, row: StoredFile) -> None:
    """Refuse to delete what a job still needs.

    Raises:
        ServiceError: 409 would be sent again by clients: 400, names the job.
    """
    jobs = session.scalars(select(Job).where(Job.tenant_id == row.tenant_id, Job.state.in_(OPEN_STATES)))
    for job in jobs:
        if row.id in (job.asked.get("training_file"), job.asked.get("validation_file")):
            raise ServiceError(400, f"job {job.id} uses this file: cancel it first", "file_in_use", "file_id")


def described(row: StoredFile) -> dict[str, Any]:
    """A file as OpenAI's clients read it, and what was found in it."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "expires_at": None,
        "filename": row.name,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
        "x_samples": row.about,
    }


def _to_disk(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
