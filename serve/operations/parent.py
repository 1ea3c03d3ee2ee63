"""Keeps a child process running: starts it again when it dies, passes signals on, ends when it ends in good order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

PR_SET_PDEATHSIG = 1
QUICK_S = 30.0
"""A child that lived shorter is started again after a pause, which doubles each time."""
LONGEST_PAUSE_S = 30.0
UNUSABLE = 2
"""The exit code of what no restart mends."""


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel (Linux) for a signal when the parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def keep_running(command: Sequence[str]) -> int:
    """Run a command, again whenever it dies; its exit status once it ended in good order or cannot be mended."""
    ending = False
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        nonlocal ending
        ending = True
        if child is not None and child.poll() is None:
            os.kill(child.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    pause = 0.5
    while True:
        began = time.monotonic()
        # A group of its own: Ctrl-C reaches the parent alone, which asks the child to end in good order.
        child = subprocess.Popen(list(command), start_new_session=True)
        status = child.wait()
        if ending or status in (0, UNUSABLE):
            return 0 if ending else status
        pause = 0.5 if time.monotonic() - began > QUICK_S else min(LONGEST_PAUSE_S, pause * 2)
        print(f"the server ended with status {status}: starting it again in {pause:g} s", file=sys.stderr, flush=True)
        time.sleep(pause)
