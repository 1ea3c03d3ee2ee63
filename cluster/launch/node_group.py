"""A group of like nodes that a launch file can start, in any form; and whether a recipe finds its place on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.labels import ROLE, matches
from cluster.launch.finding import Findings, unknown
from cluster.placement import Node, first_unplaced
from cluster.plan import Plan

SURVIVABLE = {"rollout", "judge"}
"""Roles whose nodes may be taken away at any time: a run goes on without them, or waits for others."""
ROLES = ("trainer", "rollout", "judge")
"""The roles that every launch file offers, beside its head."""
MARKET = "autodriverl/market"
LABELS = {
    ROLE: {"head", *ROLES},
    MARKET: {"spot", "on-demand"},
    "autodriverl/gpu": {"A100-80GB", "H100-80GB", "H200-141GB"},
}
"""Every label of the launch files and its values."""


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are alike."""

    name: str
    most: int
    """How many there can be; 0 for a group that is switched off."""
    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    spot: bool = False
    """Whether the provider may take them back."""


def check_labels(findings: Findings, place: str, labels: dict[str, str]) -> None:
    """Note a label that no launch file has, or a value that it does not take."""
    findings.refuse_unknown(place, labels, LABELS)
    for key in labels.keys() & LABELS.keys():
        if labels[key] not in LABELS[key]:
            findings.add(f"{place}.{key}", unknown(labels[key], LABELS[key]))
    if ROLE not in labels:
        findings.add(place, f"{ROLE} is missing")


def check_groups(findings: Findings, groups: Sequence[NodeGroup]) -> None:
    """Note what is wrong with the groups of a file that trains."""
    for group in groups:
        check_labels(findings, group.name, group.labels)
        role = group.labels.get(ROLE)
        if group.spot and role not in SURVIVABLE:
            findings.add(
                group.name, f"{role} must not be spot: what is learnt since the last checkpoint is lost with it"
            )
        if (market := group.labels.get(MARKET)) is not None and (market == "spot") != group.spot:
            findings.add(
                group.name, f"label {MARKET} says {market}, but the nodes are {'' if group.spot else 'not '}spot"
            )
    offered = {group.labels.get(ROLE) for group in groups if group.most}
    for role in ROLES:
        if role not in offered:
            findings.add("labels", f"no group that can start has the label {ROLE}={role}")


def check_plan(findings: Findings, groups: Sequence[NodeGroup], recipe: str, plan: Plan) -> None:
    """Note a label that a recipe asks for and no group has, or a process that its nodes cannot hold."""
    for label, selector in {bundle.label: bundle.selector for bundle in plan.bundles}.items():
        if not any(group.most and matches(selector, group.labels) for group in groups):
            findings.add("labels", f"{recipe} asks for nodes labelled {label}, which no group that can start has")
            return
    nodes = [Node(dict(group.resources), group.labels) for group in groups for _ in range(group.most)]
    if (left_over := first_unplaced(plan.reserved, nodes)) is not None:
        findings.add("nodes", f"{recipe} does not fit: {left_over} finds no room; raise the most nodes of a group")
