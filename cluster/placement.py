"""Placement: reserves a plan's bundles on the cluster, or says which bundle could not be placed and why.

Ray never fails an infeasible placement group, it waits for ever; so what cannot fit is refused before asking, and what
is not granted within the timeout is named and given back. A bundle is one process, and never split: an engine that
spreads its model over several GPUs has them all on one node. Knows nodes and bundles; may not start an actor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.errors import PlacementError
from cluster.labels import matches
from cluster.plan import Bundle, Plan, Role

ROLES: tuple[Role, ...] = get_args(Role)
TOLERANCE = 1e-4
"""Ray counts resources in units of this size."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a node offers: amounts of resources, and labels."""

    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)

    def offers(self, bundle: Bundle) -> str:
        """What it has of the resources that a bundle needs, and whether it may run there."""
        amounts = ", ".join(f"{self.resources.get(name, 0.0):g} {name}" for name in bundle.resources)
        return amounts if matches(bundle.selector, self.labels) else f"{amounts}, not labelled {bundle.label}"


@dataclass(frozen=True, slots=True)
class Placement:
    """The reserved bundles of a plan."""

    plan: Plan
    groups: dict[Role, PlacementGroup]

    def options(self, role: str, index: int) -> dict[str, Any]:
        """Keyword arguments for `Actor.options(...)` that put an actor into its bundle.

        One that was only invited has none: Ray makes it once there is room beside what is reserved.

        Raises:
            KeyError: the plan has no such bundle.
        """
        bundles = [bundle for bundle in self.plan.bundles if bundle.role == role]
        for own in self.plan.invited:
            if (own.role, own.index) == (role, index):
                return {"num_cpus": own.cpus, "num_gpus": own.gpus, "label_selector": own.selector}
        if not 0 <= index < len(bundles):
            raise KeyError(f"the plan has {len(bundles)} {role} bundles, there is no {role} {index}")
        own = bundles[index]
        of_role: Role = "learner" if own.beside_learner else own.role
        place = index if own.beside_learner else index - sum(bundle.beside_learner for bundle in bundles)
        return {
            "num_cpus": own.cpus,
            "num_gpus": own.gpus,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self.groups[of_role], place),
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
    nodes = alive_nodes()
    unplaced = first_unplaced(plan.reserved, nodes)
    if unplaced is not None and not plan.wait_for_nodes:
        raise PlacementError(f"{unplaced} cannot be placed: {_why(plan, unplaced, nodes, 'the cluster has')}")
    reserved = {role: bundles for role in ROLES if (bundles := [one for one in plan.reserved if one.role == role])}
    roles = sorted(reserved, key=lambda role: _size(reserved[role][0]), reverse=True)
    groups = {role: _ask(reserved[role], nodes) for role in roles}  # Ray grants them in this order: see `_size`
    placement = Placement(plan, groups)
    waiting = [role for role in roles if not groups[role].wait(math.ceil(max(0.0, deadline - time.monotonic())))]
    if not waiting:
        return placement
    available = ray._private.state.available_resources_per_node()
    free = [Node(available.get(name, {}), node.labels) for name, node in _alive().items()]
    placement.release()
    bundles = [bundle for role in waiting for bundle in reserved[role]]
    late = first_unplaced(bundles, free) or bundles[0]
    raise PlacementError(
        f"{late} was not placed within {timeout_s:g} s (cluster.placement_timeout_s): "
        f"{_why(plan, late, free, 'still free on the cluster is')}"
    )


def alive_nodes() -> list[Node]:
    """The nodes of the connected cluster."""
    return list(_alive().values())


def first_unplaced(bundles: Iterable[Bundle], nodes: Sequence[Node]) -> Bundle | None:
    """The first bundle for which no node has room after those before it.

    Large bundles go first, each to the fullest node that it fits: many small ones must not take apart the node that
    one large one needs whole.
    """
    free = [Node(dict(node.resources), node.labels) for node in nodes]
    for bundle in sorted(bundles, key=_size, reverse=True):
        fitting = [node.resources for node in free if _fits(bundle, node)]
        if not fitting:
            return bundle
        tightest = min(fitting, key=lambda node: (node.get("GPU", 0.0), node.get("CPU", 0.0)))
        for name, amount in bundle.resources.items():
            tightest[name] -= amount
    return None


def _alive() -> dict[str, Node]:
    """Every node that is up, by its id."""
    up = (node for node in ray.nodes() if node["Alive"])
    return {node["NodeID"]: Node(node["Resources"], node.get("Labels") or {}) for node in up}


def _size(bundle: Bundle) -> tuple[float, float]:
    return bundle.gpus, bundle.cpus


def _ask(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> PlacementGroup:
    """Learners share one node where one can hold them all, and few nodes otherwise; engines are packed on few."""
    strategy = "PACK"
    if bundles[0].role == "learner" and any(first_unplaced(bundles, [node]) is None for node in nodes):
        strategy = "STRICT_PACK"
    selectors = [bundle.selector for bundle in bundles]
    return placement_group(
        [bundle.resources for bundle in bundles],
        strategy=strategy,
        bundle_label_selector=selectors if any(selectors) else None,
    )


def _fits(bundle: Bundle, node: Node) -> bool:
    enough = all(node.resources.get(name, 0.0) >= amount - TOLERANCE for name, amount in bundle.resources.items())
    return enough and matches(bundle.selector, node.labels)


def _why(plan: Plan, bundle: Bundle, nodes: Sequence[Node], has: str) -> str:
    """What stands in the way, and what the whole plan asks for, against what each node has of what the bundle needs."""
    listed = "; ".join(f"node {index}: {node.offers(bundle)}" for index, node in enumerate(nodes))
    return f"{_cause(bundle, nodes)}; the plan asks for {plan.cpus:g} CPU and {plan.gpus:g} GPU in all, {has} {listed}"


def _cause(bundle: Bundle, nodes: Sequence[Node]) -> str:
    key = f"cluster.{ {'learner': 'learner', 'judge': 'judge'}.get(bundle.role, 'rollout') }_label"
    allowed = [node for node in nodes if matches(bundle.selector, node.labels)]
    if not allowed:
        ((name, value),) = bundle.selector.items()
        return (
            f"no node has the label {name}={value}: start nodes with `ray start --labels={name}=...`, or set {key}=null"
        )
    if not any(_fits(bundle, node) for node in allowed):
        return "no node is as large, and one process is never split over nodes: ask for less, or add a node"
    return "the bundles before it take what there is: ask for fewer processes, or add a node"
