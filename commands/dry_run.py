"""What `--dry-run` shows, and what it can refuse without reading data or loading a model. Starts nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from actors.record.run_folder import check_paths
from cluster.here import check_here
from cluster.plan import Role, resource_plan
from cluster.planned import outline
from data.formats.format import absent_options
from evaluation.suites.registry import suites_of
from policies.folder import check_folder
from recipe import Recipe, dump_recipe
from rewards.route import Router


def dry_run(recipe: Recipe, roles: Collection[Role] = get_args(Role), first: Recipe | None = None) -> str:
    """What it needs on GPUs, the resolved recipe, the placement, an estimate of memory, and what is still to be given.

    Args:
        recipe: what would be run.
        roles: the kinds of processes that would be started.
        first: the first of several stages, whose model is as large as those that the others begin with.

    Raises:
        RunFolderError, ExtensionError, DataError, RewardError, PolicyError, PlanError: a run of the recipe would be
            refused for a path, an engine, a transport, an option, a scorer, a benchmark, the model or the resources;
            what is in the data is seen when the run starts.
    """
    check_paths(recipe)
    Router(recipe.reward)
    suites_of(recipe.evaluation.suites)
    sized = recipe if first is None else _with_model(recipe, first.policy.model)
    check_folder(sized.policy.model)
    placed = resource_plan(sized, roles)
    check_here(placed, recipe)
    shown = [*outline(sized, placed), dump_recipe(recipe), placed.describe()]
    if absent := absent_options(recipe.data):
        shown.append(f"to be given before it runs: {', '.join(absent)}")
    elif (file := recipe.data.options.get("annotations")) is not None:
        check = f"python prepare_data.py check {file} --format {recipe.data.source} --recipe RECIPE"
        shown.append(f"not read here is the data; what of it a run could not use says: {check}")
    return "\n".join(shown)


def _with_model(recipe: Recipe, model: str) -> Recipe:
    return recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"model": model})})
