"""What a run reads before anything is started: its data and benchmarks, checked with the recipe. No torch, no ray."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.measuring.benchmark import Benchmark, load_benchmarks
from actors.record.run_folder import check_new, check_paths
from data.errors import DataError
from data.load import LoadedData, load_data, with_checked_sweeps
from data.reasoning.reasoning import demonstration
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from evaluation.held_out import choose, with_swapped_images
from policies.folder import check_folder
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
    check_folder(recipe.policy.model)
    data = load_data(recipe.data, Path(recipe.run.root).expanduser())
    data = with_checked_sweeps(data) if recipe.policy.lidar else data
    check_samples(recipe, data)
    demonstrated(of_drawn_scenes(with_a_share(data.split.train, recipe), recipe), recipe)
    benchmarks = load_benchmarks(recipe)
    check_source(recipe.policy)  # last: where the model is not the tiny one, it brings torch
    return Inputs(data, benchmarks)


def check_samples(recipe: Recipe, data: LoadedData) -> None:
    """Check that the samples can be scored, trained on and measured as the recipe says.

    Raises:
        DataError, RewardError: one sentence on what to mend.
    """
    Router(recipe.reward).check_routes([*data.split.train, *data.split.held_out])
    TaskBalancedOrder(data.split.train, recipe.data.task_shares, recipe.data.seed)
    if recipe.evaluation.before_and_after and recipe.evaluation.swapped_images:
        with_swapped_images(choose(data.split.held_out, recipe.evaluation.samples_per_task, recipe.data.seed))


def launch_folder(recipe: Recipe, inputs: Inputs) -> str:
    """Where the first weights will be; see `policy_folder`."""
    root = Path(recipe.run.root).expanduser()
    return policy_folder(recipe.policy, root, recipe.run.seed, inputs.data.corpus)


def with_a_share(samples: Sequence[DrivingSample], recipe: Recipe) -> list[DrivingSample]:
    """The samples of tasks that are trained on."""
    return [sample for sample in samples if recipe.data.task_shares.get(sample.task, 0.0) > 0]


def of_drawn_scenes(samples: Sequence[DrivingSample], recipe: Recipe) -> list[DrivingSample]:
    """The samples of `warm_start.scenes` scenes, drawn from the seed.

    Raises:
        DataError: there are fewer scenes.
    """
    wanted, scenes = recipe.warm_start.scenes, sorted({sample.scene_id for sample in samples})
    if wanted is None:
        return list(samples)
    if wanted > len(scenes):
        raise DataError(f"warm_start.scenes={wanted}, and there are {len(scenes)} training scenes: lower it")
    drawn = set(random.Random(recipe.run.seed).sample(scenes, wanted))
    return [sample for sample in samples if sample.scene_id in drawn]


def demonstrated(asked: Sequence[DrivingSample], recipe: Recipe) -> list[DrivingSample]:
    """Those that `warm_start.variant` can demonstrate.

    Raises:
        DataError: no sample has the reasoning that it needs.
    """
    variant = recipe.warm_start.variant
    found = [sample for sample in asked if demonstration(sample, variant) is not None]
    if not found:
        raise DataError(
            f"warm_start.variant={variant} needs reasoning, and none of the {len(asked)} training samples "
            "has any: name a file of it in data.reasoning (prepare_data.py distil makes one), or set "
            "warm_start.variant=simple"
        )
    return found
