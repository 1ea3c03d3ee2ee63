"""Supervised fine-tuning of a driving policy on the answers: the warm start of a recipe, on its own.

    python train_sft.py recipes/tiny.yaml warm_start.steps=200 run.name=warm [part.key=value ...] [--dry-run]

The policy it leaves in `<run>/policy` is a checkpoint folder for `policy.model`.
"""

from __future__ import annotations

import asyncio

from actors.run_folder import run_folder
from cluster.command import INTERRUPTED, command, parse_recipe
from cluster.dry_run import dry_run
from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from evaluation.run_record import POLICY_FOLDER
from recipe import RecipeError


def main(arguments: list[str]) -> int:
    """Run the recipe's supervised steps; the exit code."""
    recipe, only_shown = parse_recipe("train_sft.py", "Supervised fine-tuning of a driving VLM.", arguments)
    if recipe.warm_start.steps == 0:
        raise RecipeError("warm_start.steps is 0, so there is nothing to train: set warm_start.steps=200, for example")
    if only_shown:
        print(dry_run(recipe, roles=["learner"]))
        return 0
    if recipe.run.resume and (policy := run_folder(recipe) / POLICY_FOLDER).is_dir():
        print(f"{recipe.run.name} is finished: {policy}")
        return 0
    plan = resource_plan(recipe, roles=["learner"])
    # Here, because it brings torch and DeepSpeed: seconds that --help and a refused recipe need not wait for.
    from actors.training import prepare, train_sft

    run = prepare(recipe)
    with session(recipe):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        complete = asyncio.run(train_sft(run, placement.options))
        placement.release()
    return 0 if complete else INTERRUPTED


if __name__ == "__main__":
    command(main)
