"""Joining a Ray cluster that runs already: what stands in the way is said in one sentence, and soon."""

from __future__ import annotations

import socket
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from cluster.errors import SessionError

CONNECT_S = 10.0
SETTING = "cluster.address, RAY_ADDRESS"
"""What names the cluster of a run."""


def join(address: str, setting: str = SETTING, **options: Any) -> None:
    """Connect this process to the cluster at `address` (host:port, or auto); `options` are `ray.init`'s.

    Args:
        address: of the cluster.
        setting: what names it, for messages.
        options: what else `ray.init` takes.

    Raises:
        SessionError: no cluster answers there, it wants another token, or it has another version of Ray or Python.
    """
    _check_address(address, setting)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except AuthenticationError as error:
        raise SessionError(
            f"the Ray cluster at {address} ({setting}) wants a token, and this process has none: copy the cluster's "
            "to ~/.ray/auth_token (chmod 600), or set RAY_AUTH_TOKEN to it"
        ) from error
    except ConnectionError as error:
        raise _no_answer(address, setting, error) from error
    except RuntimeError as error:
        raise (_refusal(address, setting, error) or error) from error


def _refusal(address: str, setting: str, error: RuntimeError) -> SessionError | None:
    """The sentence for what Ray says at length; None for what is not known here."""
    said = " ".join(str(error).split())
    if "ersion mismatch" in said:
        return SessionError(
            f"the Ray cluster at {address} ({setting}) has other versions than this process: {said}; set up both from "
            "one constraints.txt (the images in docker/ are)"
        )
    return None


def _check_address(address: str, setting: str) -> None:
    """Refuse at once what Ray would try for minutes."""
    if "://" in address:
        raise SessionError(
            f"{address} ({setting}) is no address of the form host:port; the job server's http:// address is for "
            "`ray job submit` alone"
        )
    host, _, port = address.rpartition(":")
    if not host:  # auto: Ray finds the cluster of this machine
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, setting, error) from error


def _no_answer(address: str, setting: str, error: Exception) -> SessionError:
    said = " ".join(str(error).split())
    return SessionError(
        f"no Ray cluster answers at {address} ({setting}): {said}; start one there, or name the head's host:port"
    )
