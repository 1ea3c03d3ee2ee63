"""Whether this machine has what a plan asks for, where a run would start Ray on it. Starts nothing."""

from __future__ import annotations

import os

from cluster.errors import PlanError
from cluster.plan import Plan
from recipe import Recipe


def check_here(plan: Plan, recipe: Recipe, cpus: int | None = None) -> None:
    """Refuse what this machine's CPUs cannot hold, as the run would.

    Only where the run would start Ray here, and asks for no GPU: a recipe for GPUs is looked at on any machine.

    Raises:
        PlanError: there are fewer CPUs than the processes reserve.
    """
    if recipe.cluster.address or os.environ.get("RAY_ADDRESS") or recipe.cluster.wait_for_nodes or plan.gpus:
        return
    cpus = os.cpu_count() or 1 if cpus is None else cpus
    if plan.cpus > cpus:
        most = max({bundle.role for bundle in plan.bundles}, key=lambda role: sum(b.cpus for b in plan.of(role)))
        raise PlanError(
            f"the processes reserve {plan.cpus:g} CPUs, {sum(b.cpus for b in plan.of(most)):g} of them for {most}, and "
            f"this machine has {cpus}: lower rollout.engines, learner.ranks or their cpus, or set cluster.address"
        )
