"""The doctor's check of ports: whether somebody else holds those that Ray and the endpoint listen on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import psutil

from cluster.finding import Finding

PORTS: Mapping[int, tuple[str, str]] = {
    6379: ("Ray's GCS", "ray start --head --port=N, and N in every --address"),
    8265: ("Ray's dashboard and job server", "ray start --head --dashboard-port=N, and N in RAY_ADDRESS"),
    10001: ("Ray's client server", "ray start --head --ray-client-server-port=N"),
    8000: ("the endpoint", "serve.port=N in the recipe"),
}
"""Port to what listens there, and how it is given another port."""
OURS = ("gcs_server", "raylet", "dashboard", "ray::", "ray/", "serve.app")
"""Words in the command line of those that may hold them."""


def check_ports(
    held: Callable[[int], bool] | None = None, holder: Callable[[int], tuple[int, str] | None] | None = None
) -> Finding:
    """The ports are free, or held by Ray and the endpoint themselves.

    A script that starts Ray on its own machine takes any free ports, so a port that somebody else holds is a note.
    """
    held, holder = held or is_held, holder or holder_of
    ours, others = list[str](), list[str]()
    mends = list[str]()
    for port, (what, mend) in PORTS.items():
        if not held(port):
            continue
        who = holder(port)
        if who is not None and any(word in who[1] for word in OURS):
            ours.append(f"{port} by {what}")
            continue
        by = "another user's process" if who is None else f"process {who[0]} ({who[1][:60]})"
        others.append(f"{port} ({what}) is held by {by}")
        mends.append(mend)
    if others:
        return Finding("ports", "note", "; ".join(others), f"end it, or: {'; '.join(mends)}")
    return Finding("ports", "ok", f"in use: {', '.join(ours)}" if ours else f"free: {', '.join(map(str, PORTS))}")


def is_held(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def holder_of(port: int) -> tuple[int, str] | None:
    """Process id and command line of who listens there; None where this user may not know."""
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return one.pid, " ".join(psutil.Process(one.pid).cmdline())
    except (psutil.AccessDenied, psutil.NoSuchProcess, PermissionError):
        return None
    return None
