"""A PostgreSQL cluster of a test's own: in a folder, under a user of its own, on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.operations.listening import free_port

PLACES = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
USERS = ("postgres", "nobody")
"""Whose processes they become where a test runs as root, which PostgreSQL refuses."""


def programs() -> tuple[str, str]:
    """`initdb` and `postgres`; without them the test is skipped."""
    search = os.pathsep.join([*PLACES, os.environ.get("PATH", "")])
    found = [shutil.which(name, path=search) for name in ("initdb", "postgres")]
    if not all(found):
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    return str(found[0]), str(found[1])


@contextmanager
def postgres() -> Iterator[str]:
    """A server inside the block; yields the URL of an empty database."""
    initdb, server = programs()
    user = next(name for name in USERS if name in {one.pw_name for one in pwd.getpwall()}) if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder, "data")
        data.mkdir()
        if user is not None:
            shutil.chown(data, user)
        port = free_port()
        made = [initdb, "-D", str(data), "-U", "service", "-A", "trust", "-N"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        command = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-F"]
        process = subprocess.Popen(command, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield f"postgresql://service@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # fast: it waits for no client
            process.wait(30)
