"""Applications at a port of this machine alone, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from serve.operations.listening import free_port

START_S, END_S = 60.0, 10.0


@contextlib.contextmanager
def on_loopback(application: Any) -> Iterator[str]:
    """The address of an application that is served by a thread of this process.

    Raises:
        TimeoutError: it did not come up.
    """
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not server.started:
            if time.monotonic() > until:
                raise TimeoutError(f"nothing was served at port {port} within {START_S:g} s")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(END_S)
