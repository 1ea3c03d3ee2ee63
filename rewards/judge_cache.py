"""Judgements on disk: what a judge once replied is never paid for again, also after a restart. SQLite, text only."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from rewards.errors import RewardError

BUSY_TIMEOUT_S = 10.0


class JudgeCache:
    """Replies by the hash of everything that decides them (see `judge_key`). Several processes may share the file.

    A file that is no database, or a damaged one, is moved aside as `<name>.corrupt-<time>` and counted in `corrupt`:
    losing a cache costs judging again, never a wrong score. Replies are parsed anew whenever they are read. Where there
    is no room, or another process holds the file for too long, a reply is not kept, or not read: `unkept` counts these.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; its folder is made.

        Raises:
            RewardError: it cannot be opened: no room, no right, another process holds it.
        """
        self.path, self.corrupt, self.unkept = path, 0, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open_sound()

    def get(self, key: str) -> str | None:
        """The reply kept under a key."""
        try:
            row = self._connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.OperationalError:  # locked: as if it were not there
            self.unkept += 1
            return None
        except sqlite3.DatabaseError:
            self._start_anew()
            return None
        return row[0] if row else None

    def put(self, key: str, rubric: str, judge: str, reply: str) -> None:
        """Keep a reply; the rubric and the judge stand beside it for people who look into the file."""
        values = (key, rubric, judge, reply, time.time())
        try:
            self._insert(values)
        except sqlite3.OperationalError:  # full or locked: the file itself is sound
            self.unkept += 1
        except sqlite3.DatabaseError:
            self._start_anew()
            self._insert(values)

    def _insert(self, values: tuple[str, str, str, str, float]) -> None:
        self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _open_sound(self) -> None:
        try:
            self._open()
        except sqlite3.OperationalError as error:  # the file itself is sound
            raise RewardError(
                f"the judge's cache {self.path} cannot be opened ({error}): mend that, or set reward.judge.cache=false"
            ) from None
        except sqlite3.DatabaseError:
            self._start_anew()

    def _open(self) -> None:
        self._connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, rubric TEXT, judge TEXT, reply TEXT, at REAL)"
        )

    def _start_anew(self) -> None:
        """Move the damaged file aside, with what SQLite keeps next to it."""
        self.corrupt += 1
        self._connection.close()
        aside = f"corrupt-{time.time_ns()}"
        self.path.replace(self.path.with_name(f"{self.path.name}.{aside}"))
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()
        self._open()
