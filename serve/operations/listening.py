"""Where a server can listen: whether it can where its recipe says, asked before anything is loaded for it."""

from __future__ import annotations

import socket

from serve.errors import ServeError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check_port(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at.

    Raises:
        ServeError: another process listens there, or the address is not this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host}:{port} (serve.host, serve.port): {error.strerror}; set serve.port to a free "
                "one, or end what listens there"
            ) from None
