"""Whether every node that a run uses sees the same run folder: a file is written and read on each of them.

Learners write checkpoints there, and engines may read the first weights and drawn images from there. A folder that each
node has for itself would be found out only when a run is resumed. May touch nothing but its own small files.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import ray
from ray.util import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import PlacementError
from cluster.placement import Placement

TIMEOUT_S = 120.0
"""Longest wait for all nodes; the first task on a node starts a process there."""


def check_shared(placement: Placement, folder: Path) -> None:
    """Write a file into `folder` here, have each other node of a placement read it and write one, and read those.

    Raises:
        PlacementError: a node does not see what was written elsewhere, or cannot write; it is named with what to do.
    """
    here = ray.get_runtime_context().get_node_id()
    tables = [placement_group_table(group) for group in placement.groups.values()]
    used = sorted({node for table in tables for node in table["bundles_to_node_id"].values()} - {here})
    if not used:
        return
    folder.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    own = folder / f".shared-{token}"
    own.write_text(token)
    try:
        asked = [_asked(node).remote(str(folder), token, node) for node in used]
        for node, said in zip(used, ray.get(asked, timeout=TIMEOUT_S), strict=True):
            _refuse_apart(node, said, folder, token)
    finally:
        for path in folder.glob(f".shared-{token}*"):
            path.unlink(missing_ok=True)


def visit(folder: str, token: str, node: str) -> str:
    """What a node does: read the file that was written elsewhere, and write one; what went wrong, or nothing."""
    try:
        found = Path(folder, f".shared-{token}").read_text()
        Path(folder, f".shared-{token}-{node}").write_text(token)
    except OSError as error:
        return str(error)
    return "" if found == token else "another file lies there"


def _asked(node: str) -> Any:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(visit).options(num_cpus=0, scheduling_strategy=where)


def _refuse_apart(node: str, said: str, folder: Path, token: str) -> None:
    back = folder / f".shared-{token}-{node}"
    if not said and back.is_file() and back.read_text() == token:
        return
    addresses = {one["NodeID"]: one["NodeManagerAddress"] for one in ray.nodes()}
    raise PlacementError(
        f"run.root={folder} is not shared: node {addresses.get(node, node)} does not see what is written here "
        f"({said or 'what it wrote is not seen here'}); mount the same storage on every node "
        "(cluster/launch/ does), and name a folder on it"
    )
