"""Ctrl-C and SIGTERM: at once where nothing would be lost, after the running step where a checkpoint can be written."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Listens for the signals that end a run. Outside `deferred` they cancel the run's task."""

    def __init__(self) -> None:
        """Nothing was asked yet; `listen` begins."""
        self.requested = False
        self._deferring = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Handle the signals for the duration. Call it in the run's own task."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # a coroutine that runs is in a task
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled, task)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """For the duration a first signal only sets `requested`; a second one cancels."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _signalled(self, task: asyncio.Task[object]) -> None:
        if self._deferring and not self.requested:
            self.requested = True
            print("\nstopping after this step with a checkpoint; once more to stop at once", flush=True)
        else:
            task.cancel()
