"""What `--dry-run` shows, and what it can refuse without reading data or loading a model. Starts nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from actors.inputs import check_samples
from actors.record.run_folder import check_paths
from cluster.here import check_here
from cluster.plan import Role, resource_plan
from cluster.planned import outline
from data.formats.format import absent_options, format_of
from data.load import load_data
from data.sample import ANY
from evaluation.suites.registry import suites_of
from policies.folder import check_folder
from recipe import Recipe, dump_recipe
from rewards.route import Router

MOST_READ = 64 * 2**20
"""Bytes of a file that a dry run reads at most."""
DRIVEN = {"driving"}
"""Data that are made by driving, which takes minutes."""


def dry_run(recipe: Recipe, roles: Collection[Role] = get_args(Role), first: Recipe | None = None) -> str:
    """What it needs on GPUs, the resolved recipe, the placement, an estimate of memory, and what is still to be given.

    Args:
        recipe: what would be run.
        roles: the kinds of processes that would be started.
        first: the first of several stages, whose model is as large as those that the others begin with.

    Raises:
        RunFolderError, ExtensionError, DataError, RewardError, PolicyError, PlanError: a run of the recipe would be
            refused for a path, an engine, a transport, an option, a scorer, a benchmark, the model or the resources;
            of the data only a task that they lack is seen, the rest when the run starts.
    """
    check_paths(recipe)
    Router(recipe.reward)
    suites_of(recipe.evaluation.suites)
    sized = recipe if first is None else _with_model(recipe, first.policy.model)
    check_folder(sized.policy.model)
    placed = resource_plan(sized, roles)
    check_here(placed, recipe)
    read = _check_tasks(recipe)
    shown = [*outline(sized, placed), dump_recipe(recipe), placed.describe()]
    if absent := absent_options(recipe.data):
        shown.append(f"to be given before it runs: {', '.join(absent)}")
    elif not read and (file := recipe.data.options.get("annotations")) is not None:
        check = f"python prepare_data.py check {file} --format {recipe.data.source} --recipe RECIPE"
        shown.append(f"not read here is the data; what of it a run could not use says: {check}")
    return "\n".join(shown)


def _check_tasks(recipe: Recipe) -> bool:
    """Read the data where the recipe names tasks, which they may lack; whether they were read.

    Not where it takes long: options are still to be given, what is read is large, or it is driven first.

    Raises:
        DataError, RewardError: a run would be refused for it.
    """
    routes = recipe.reward.routes
    named = {*recipe.data.task_shares, *(route.task for route in routes)} - {ANY}
    if not named or recipe.environment is not None or absent_options(recipe.data):
        return False
    files = format_of(recipe.data).files().values()
    if recipe.data.source in DRIVEN or any(_size(path) > MOST_READ for path in files):
        return False
    with tempfile.TemporaryDirectory(prefix="dry-run-") as made:
        check_samples(recipe, load_data(recipe.data, Path(made)))
    return True


def _size(path: Path) -> int:
    """Bytes of a file; more than may be read, of a folder."""
    return path.stat().st_size if path.is_file() else MOST_READ + 1 if path.is_dir() else 0


def _with_model(recipe: Recipe, model: str) -> Recipe:
    return recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"model": model})})
