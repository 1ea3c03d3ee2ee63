"""`LeaseHolder`: the right to work on a database, held by one server at a time.

Two servers that both applied requests would learn twice. Each write of a result names the epoch of its lease; where
another server took over meanwhile, the write is refused and the old server ends.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Lease

NAME = "service"


class LeaseLost(RuntimeError):
    """Another server works on this database now; this one must end."""


class LeaseHolder:
    """One server's claim."""

    def __init__(self, database: Database, seconds: float) -> None:
        """A lease that is not renewed ends after `seconds`."""
        self._database, self.seconds = database, seconds
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{started_at(os.getpid())}/{uuid.uuid4().hex[:8]}"
        self.epoch = 0

    def take(self) -> str | None:
        """Take the lease; None, or who has it (then try again)."""
        now = time.time()
        with self._database.writing() as session:
            lease = session.scalar(select(Lease).where(Lease.name == NAME).with_for_update())
            if lease is None:
                lease = Lease(name=NAME, holder="", epoch=0, expires_at=0.0)
                session.add(lease)
            elif lease.expires_at > now and lease.holder != self.holder and not is_gone(lease.holder):
                return lease.holder
            lease.holder, lease.epoch = self.holder, lease.epoch + 1
            lease.expires_at = now + self.seconds
            self.epoch = lease.epoch
        return None

    def renew(self) -> None:
        """Hold on to it.

        Raises:
            LeaseLost: another server has it.
        """
        with self._database.writing() as session:
            self.check(session)
            lease = session.get_one(Lease, NAME)
            lease.expires_at = time.time() + self.seconds

    def check(self, session: Session) -> None:
        """Refuse to write for a lease that is another's, in the transaction of what is written.

        Raises:
            LeaseLost: another server has it.
        """
        found = session.scalar(select(Lease.epoch).where(Lease.name == NAME).with_for_update(read=True))
        if found != self.epoch:
            raise LeaseLost(f"another server took over this database (epoch {found}, ours was {self.epoch})")

    def release(self) -> None:
        """Give it back, so that the next server need not wait."""
        with self._database.writing() as session:
            lease = session.get(Lease, NAME)
            if lease is not None and lease.epoch == self.epoch:
                lease.expires_at = 0.0


def is_gone(holder: str) -> bool:
    """Whether a holder is a process of this machine that ended: its lease need not run out."""
    host, pid, began, _ = holder.split("/") if holder.count("/") == 3 else ("", "0", "", "")
    return host == socket.gethostname() and started_at(int(pid)) != began


def started_at(pid: int) -> str:
    """When a process began, in the kernel's ticks: another process of the same number has another; empty if none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
