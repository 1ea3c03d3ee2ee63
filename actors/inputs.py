"""What a run reads before anything is started: its data and benchmarks, checked with the recipe. No torch, no ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.measuring.benchmark import Benchmark, load_benchmarks
from actors.record.run_folder import check_new, check_paths
from actors.record.tracker import check_trackers
from data.load import LoadedData, load_data, with_checked_sweeps
from data.reasoning.demonstrated import demonstrated, of_drawn_scenes
from data.sample_store import Joined
from data.split import TaskBalancedOrder, with_a_share
from evaluation.held_out import choose, with_swapped_images
from policies.folder import check_folder
from policies.heads.files import check_codebooks
from policies.source import check_source, policy_folder
from recipe import Recipe
from rewards.route import Router


@dataclass(frozen=True)
class Inputs:
    """What was read."""

    data: LoadedData
    benchmarks: tuple[Benchmark, ...]
    """What is measured beside the training."""


def read_inputs(recipe: Recipe) -> Inputs:
    """Load the data, and check what can be wrong with it, with the recipe and with the model's folder.

    Raises:
        ExtensionError, DataError, RewardError, PolicyError, RunFolderError: one sentence on what to mend.
    """
    check_paths(recipe)
    check_new(recipe)
    check_trackers(recipe)
    check_folder(recipe.policy.model)
    check_codebooks(recipe.policy.heads, _codebooks(recipe))
    data = load_data(recipe.data, Path(recipe.run.root).expanduser())
    data = with_checked_sweeps(data) if recipe.policy.lidar else data
    check_samples(recipe, data)
    warm = recipe.warm_start
    shown = with_a_share(data.split.train, recipe.data.task_shares)
    demonstrated(of_drawn_scenes(shown, warm.scenes, recipe.run.seed), warm.variant)
    benchmarks = load_benchmarks(recipe)
    check_source(recipe.policy)  # last: where the model is not the tiny one, it brings torch
    return Inputs(data, benchmarks)


def _codebooks(recipe: Recipe) -> dict[str, Any]:
    """The codebooks of action tokens that data and environment name, by setting."""
    parts = {"data.options": recipe.data.options}
    if recipe.environment is not None:
        parts["environment.options"] = recipe.environment.options
    return {f"{part}.codebook": options["codebook"] for part, options in parts.items() if options.get("codebook")}


def check_samples(recipe: Recipe, data: LoadedData) -> None:
    """Check that the samples can be scored, trained on and measured as the recipe says.

    Raises:
        DataError, RewardError: one sentence on what to mend.
    """
    Router(recipe.reward).check_routes(Joined(data.split.train, data.split.held_out))
    TaskBalancedOrder(data.split.train, recipe.data.task_shares, recipe.data.seed)
    if recipe.evaluation.before_and_after and recipe.evaluation.swapped_images:
        with_swapped_images(choose(data.split.held_out, recipe.evaluation.samples_per_task, recipe.data.seed))


def launch_folder(recipe: Recipe, inputs: Inputs) -> str:
    """Where the first weights will be; see `policy_folder`."""
    root = Path(recipe.run.root).expanduser()
    return policy_folder(recipe.policy, root, recipe.run.seed, inputs.data.corpus)
