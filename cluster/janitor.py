"""Clears away what a driver leaves of the Ray that it started, however the driver ends: also after `kill -9`.

A process of its own, started by `cluster.session` for one temporary folder. Ray's agents and the folder's files outlive
a driver that is killed. May end processes that use files below that folder, and remove the folder; nothing else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

GRACE_S = 10.0
"""Ray's processes get so long to end by themselves."""
WAIT_S = 20.0


class Janitor:
    """Watches over one folder from the driver's side; `release` when the folder is gone."""

    def __init__(self, folder: Path) -> None:
        # A session of its own: Ctrl-C in the terminal reaches the driver, not this process.
        command = [sys.executable, str(Path(__file__).resolve()), str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def release(self) -> None:
        """Let it look at once, and wait until it has ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # it ends by itself, a little later
            self._process.wait(GRACE_S + WAIT_S)


def clear(folder: Path) -> None:
    """End the processes that still use files below the folder after a while, and remove it."""
    deadline = time.monotonic() + GRACE_S
    while (left := users_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=WAIT_S)
    shutil.rmtree(folder, ignore_errors=True)


def users_of(folder: Path) -> list[psutil.Process]:
    """The processes of this machine that have a file below the folder open, or are started with one."""
    below, found = f"{folder}/", []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            named = any(below in argument for argument in process.cmdline())
            if named or any(file.path.startswith(below) for file in process.open_files()):
                found.append(process)
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()  # the driver's end of the pipe closes with the driver
    if Path(sys.argv[1]).is_dir():
        clear(Path(sys.argv[1]))
