"""`OwnProcesses`: where a user's plain functions run, apart from ours, so that one that hangs can be ended.

Each process takes one call at a time. They are started as calls wait, and end with this one.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from rewards.own_process import Call
from rewards.score import Score

START_TIMEOUT_S = 300.0
"""Longest wait for a process to start, and for it to import a user's module."""
TIMED_OUT = "scoring_timeout"
"""What a failure begins with when a reward took longer than `reward.timeout_s`; it is counted under this name."""
_BEGIN = "import sys; sys.path[:] = {path!r}; from rewards.own_process import main; main({descriptor})"


class OwnProcesses:
    """Runs calls side by side; a call's time counts from its start, not from when it began to wait."""

    def __init__(self, most: int, timeout_s: float) -> None:
        """Start nothing yet.

        Args:
            most: processes.
            timeout_s: longest time of one call in seconds; its process is then ended.
        """
        self._shared = _Shared(most, timeout_s)
        self.close = weakref.finalize(self, self._shared.end)  # at the latest when Python exits

    def call(self, call: Call) -> Future[list[Score]]:
        """The scores of a call; one that hangs, or whose process dies, has its failure in each of them."""
        future: Future[list[Score]] = Future()
        self._shared.waiting.put((call, future))
        self._shared.grow()
        return future


@dataclass(eq=False)
class _Shared:
    """What the threads that stand for the processes share."""

    most: int
    timeout_s: float
    waiting: SimpleQueue[tuple[Call, Future[list[Score]]] | None] = field(default_factory=SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    processes: list[_Process] = field(default_factory=list)
    idle: int = 0
    starting: bool = False
    ended: bool = False

    def grow(self) -> None:
        """One more process where calls wait for one; one at a time, so that quick calls need few."""
        with self.lock:
            enough = self.idle >= self.waiting.qsize() or len(self.processes) >= self.most
            if enough or self.starting or self.ended:
                return
            self.starting = True
            process = _Process(self)
            self.processes.append(process)
        threading.Thread(target=process.serve, daemon=True).start()

    def end(self) -> None:
        """End every process at once, whatever it does."""
        with self.lock:
            self.ended = True
            for process in self.processes:
                process.kill()
                self.waiting.put(None)


class _Process:
    """One process, started anew after each call that it did not survive."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._running: subprocess.Popen[bytes] | None = None
        self._channel: Connection[Any, Any] | None = None
        self._imported: set[str] = set()
        self._new = True

    def serve(self) -> None:
        """Take calls, one after another; the body of a daemon thread."""
        shared = self._shared
        while True:
            with shared.lock:
                shared.idle += 1
            taken = shared.waiting.get()
            with shared.lock:
                shared.idle -= 1
            if taken is None or shared.ended:
                return
            call, future = taken
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._scores(call))
                except BaseException as error:  # what cannot be pickled, say; nobody else would hear of it
                    self.kill()
                    future.set_exception(error)

    def _scores(self, call: Call) -> list[Score]:
        failure = self._ready(call.path)
        shared = self._shared
        if self._new:
            self._new = shared.starting = False
            shared.grow()
        if failure is None:
            answer, failure = self._ask(call, shared.timeout_s)
            if failure is None:
                return answer
        if failure is TIMED_OUT:
            failure = f"{TIMED_OUT}: {call.path} took longer than reward.timeout_s={shared.timeout_s:g} s"
        return [Score(0.0, failure=failure)] * (call.responses or 1)

    def _ready(self, path: str) -> str | None:
        """Start the process and let it import the path, where that is not done; what went wrong."""
        if self._running is None or self._running.poll() is not None:
            self._start()
        if path in self._imported:
            return None
        problem, failure = self._ask(path, START_TIMEOUT_S)
        if failure is TIMED_OUT:
            return f"{path}: importing it took longer than {START_TIMEOUT_S:g} s"
        if failure is None and problem is None:
            self._imported.add(path)
        return failure or (problem and f"{path}: {problem}")

    def _ask(self, question: str | Call, timeout_s: float) -> tuple[Any, str | None]:
        """The answer of the process, or why there is none; it is then ended."""
        assert self._channel is not None
        assert self._running is not None
        path = question if isinstance(question, str) else question.path
        try:
            self._channel.send(question)
            if self._channel.poll(timeout_s):
                return self._channel.recv(), None
        except (EOFError, OSError):
            code = self._running.wait()
            return None, f"scorer_died: {path} ended its process (exit code {code})"
        self.kill()
        return None, TIMED_OUT

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            begin = _BEGIN.format(path=sys.path, descriptor=theirs.fileno())
            command = [sys.executable, "-c", begin]
            self._running = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._channel, self._imported = ours, set()
        if self._shared.ended:
            self.kill()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
