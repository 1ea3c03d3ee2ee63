"""Checkpoints by their `tinker://` paths: naming, keeping, finding. A tenant finds its own alone."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Model, Sampler, Weights
from serve.errors import UserError
from serve.training.futures import Done, succeeded
from serve.training.places import remove

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FOLDERS = {"training": "weights", "sampler": "sampler_weights"}


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights that is whole and has no row yet."""

    path: str
    kind: str
    folder: Path
    digests: dict[str, str]
    bytes: int


def name_of(model_id: str, asked: dict[str, Any]) -> str:
    """The path of what a save asks for.

    Raises:
        UserError: the name is none.
    """
    kind = "training" if asked["type"] == "save_weights" else "sampler"
    name = asked.get("path") or f"ephemeral-{asked['seq_id']}"
    if not NAME.fullmatch(name):
        raise UserError(
            f"path: {name[:100]!r} is no name: use letters, digits, dots, dashes and underscores, 100 at most"
        )
    return f"tinker://{model_id}/{FOLDERS[kind]}/{name}"


def keep_weights(database: Database, model: Model, asked: dict[str, Any], made: Checkpoint) -> Done:
    """The result of a save; its rows are written with it.

    Raises:
        UserError: there is a checkpoint of that name, and it is not to be overwritten.
    """
    with database.reading() as session:
        old = session.execute(select(Weights.folder).where(Weights.path == made.path)).one_or_none()
    if old is not None and not asked.get("overwrite", made.kind == "sampler" and not asked.get("path")):
        remove(made.folder)
        raise UserError(f"path: {made.path} exists already: choose another name, or set overwrite")
    named, now = bool(asked.get("path")), time.time()
    ttl = asked.get("ttl_seconds")
    sampler = (
        None if named or made.kind == "training" else sampler_id(model.session_id, asked["sampling_session_seq_id"])
    )

    def keep(session: Session) -> None:
        session.execute(delete(Weights).where(Weights.path == made.path))
        row = Weights(
            path=made.path, tenant_id=model.tenant_id, model_id=model.id, kind=made.kind, named=named,
            folder=str(made.folder), digests=made.digests, bytes=made.bytes, settings=model.settings,
            about=asked.get("user_metadata") or {}, created_at=now, expires_at=now + ttl if ttl else None,
        )  # fmt: skip
        session.add(row)
        session.flush()
        if sampler is not None and session.get(Sampler, sampler) is None:
            session.add(Sampler(id=sampler, tenant_id=model.tenant_id, session_id=model.session_id,
                                base_model=model.base_model, weights_path=made.path, weights_number=row.number,
                                created_at=now))  # fmt: skip

    answer = {"path": made.path} if sampler is None else {"sampling_session_id": sampler}
    return Done(succeeded({"type": asked["type"], **answer}), keep)


def sampler_id(session_id: str, number: int) -> str:
    """The id of a session's sampler."""
    return f"{session_id}:sample:{number}"


def find_weights(database: Database, tenant_id: str, path: str) -> Weights:
    """A checkpoint of a tenant.

    Raises:
        UserError: there is none of that path.
    """
    with database.reading() as session:
        found = session.scalar(select(Weights).where(Weights.path == path, Weights.tenant_id == tenant_id))
        if found is None or (found.expires_at or time.time() + 1) <= time.time():
            raise UserError(f"path: there are no weights at {path[:300]}: list your checkpoints, or save them again")
        session.expunge(found)
        return found
