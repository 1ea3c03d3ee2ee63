"""`report.html` while a run goes: written again and again in a thread of its own, so that a browser can watch. No ray.

It never costs more than a small share of the run: the next page waits fifty times as long as the last one took.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from evaluation.pages.run_report import write_report

PAUSES = 50.0
"""The pause after a page, in times of what it took: 2 % of the run at most."""
JOIN_S = 60.0
"""Longest wait for a page that is being written when the run ends."""


class LivePage:
    """The page of one run."""

    def __init__(self, folder: Path, least_s: float) -> None:
        """Nothing is written yet; `least_s` are the least seconds between two pages, 0 writes none."""
        self._folder, self._least_s = folder, least_s
        self._next = 0.0
        self._thread: threading.Thread | None = None
        self.failure: str | None = None
        """Why a page could not be written, in a sentence; none is written after that."""

    def renew(self) -> None:
        """Write the page anew, if it is time; returns at once."""
        if not self._least_s or self.failure or time.monotonic() < self._next or self._is_writing:
            return
        self._thread = threading.Thread(target=self._write, name="live page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let a page that is being written be finished, and write no more."""
        self._least_s = 0.0
        if self._thread is not None:
            self._thread.join(JOIN_S)

    @property
    def _is_writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _write(self) -> None:
        began = time.monotonic()
        try:
            write_report(self._folder, renewed_s=self._least_s)
        except OSError as error:  # a full disk, a folder that is gone: the run says so and goes on
            self.failure = f"report.html is not renewed any more: {error.strerror or error}"
        ended = time.monotonic()
        self._next = ended + max(self._least_s, PAUSES * (ended - began))
