"""Placement: reserves a plan's bundles on the cluster, or says which bundle could not be placed and why.

Ray never fails an infeasible placement group, it waits for ever; so what cannot fit is refused before asking, and what
is not granted within the timeout is named and given back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.errors import PlacementError
from cluster.plan import Bundle, Plan, Role

Resources = dict[str, float]

ROLES: tuple[Role, ...] = get_args(Role)
TOLERANCE = 1e-4
"""Ray counts resources in units of this size."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The reserved bundles of a plan."""

    plan: Plan
    groups: dict[Role, PlacementGroup]

    def options(self, role: str, index: int) -> dict[str, Any]:
        """Keyword arguments for `Actor.options(...)` that put an actor into its bundle.

        Raises:
            KeyError: the plan has no such bundle.
        """
        bundles = [bundle for bundle in self.plan.bundles if bundle.role == role]
        if not 0 <= index < len(bundles):
            raise KeyError(f"the plan has {len(bundles)} {role} bundles, there is no {role} {index}")
        return {
            "num_cpus": bundles[index].cpus,
            "num_gpus": bundles[index].gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self.groups[bundles[index].role], index),
        }

    def release(self) -> None:
        """Give the bundles back; actors still in them are killed by Ray."""
        for group in self.groups.values():
            remove_placement_group(group)


def place(plan: Plan, timeout_s: float) -> Placement:
    """Reserve every bundle of a plan on the connected cluster.

    Args:
        plan: the bundles.
        timeout_s: longest wait for all of them together, in seconds.

    Raises:
        PlacementError: a bundle fits no node, or was not granted in time; nothing stays reserved.
    """
    deadline = time.monotonic() + timeout_s
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    unplaced = first_unplaced(plan.bundles, nodes)
    if unplaced is not None and not plan.wait_for_nodes:
        raise PlacementError(f"{unplaced} cannot be placed: {_shortfall(plan, unplaced, nodes, 'the cluster has')}")
    roles = [role for role in ROLES if plan.of(role)]
    groups = {role: _ask(plan.of(role), nodes) for role in roles}
    placement = Placement(plan, groups)
    waiting = [role for role in roles if not groups[role].wait(math.ceil(max(0.0, deadline - time.monotonic())))]
    if not waiting:
        return placement
    free = list(ray._private.state.available_resources_per_node().values())
    placement.release()
    bundles = [bundle for role in waiting for bundle in plan.of(role)]
    late = first_unplaced(bundles, free) or bundles[0]
    raise PlacementError(
        f"{late} was not placed within {timeout_s:g} s (cluster.placement_timeout_s): "
        f"{_shortfall(plan, late, free, 'still free on the cluster is')}"
    )


def first_unplaced(bundles: Iterable[Bundle], nodes: Sequence[Resources]) -> Bundle | None:
    """The first bundle for which no node has room after the ones before it (each goes to the fullest node it fits)."""
    free = [dict(node) for node in nodes]
    for bundle in bundles:
        fitting = [node for node in free if _fits(bundle.resources, node)]
        if not fitting:
            return bundle
        tightest = min(fitting, key=lambda node: (node.get("GPU", 0.0), node.get("CPU", 0.0)))
        for name, amount in bundle.resources.items():
            tightest[name] -= amount
    return None


def _ask(bundles: tuple[Bundle, ...], nodes: Sequence[Resources]) -> PlacementGroup:
    """Learners share one node where one can hold them all, and few nodes otherwise; engines are packed on few."""
    strategy = "PACK"
    if bundles[0].role == "learner" and any(first_unplaced(bundles, [node]) is None for node in nodes):
        strategy = "STRICT_PACK"
    return placement_group([bundle.resources for bundle in bundles], strategy=strategy)


def _fits(wanted: Resources, node: Resources) -> bool:
    return all(node.get(name, 0.0) >= amount - TOLERANCE for name, amount in wanted.items())


def _shortfall(plan: Plan, bundle: Bundle, nodes: Sequence[Resources], has: str) -> str:
    """What the whole plan asks for, against what each node has of the resources that the bundle needs."""
    offers = [", ".join(f"{node.get(name, 0.0):g} {name}" for name in bundle.resources) for node in nodes]
    listed = "; ".join(f"node {index}: {offer}" for index, offer in enumerate(offers))
    return f"the plan asks for {plan.cpus:g} CPU and {plan.gpus:g} GPU in all, {has} {listed}"
