"""Where a command's judges and CLIP actors run: a cluster is started, or joined, only when the reward needs actors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from recipe import ActorOptions, Recipe


@contextlib.contextmanager
def places_of_scorers(recipe: Recipe) -> Iterator[ActorOptions]:
    """Places for the actors of a recipe's reward, inside the block."""
    plan = resource_plan(recipe, roles=["judge", "clip"])
    if not plan.bundles:
        yield lambda role, index: {}  # nothing is placed
        return
    with session(recipe):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        try:
            yield placement.options
        finally:
            placement.release()
