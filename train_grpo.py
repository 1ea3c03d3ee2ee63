"""Reinforcement learning of a driving policy: sample, score, learn, sync.

    python train_grpo.py recipes/tiny.yaml [part.key=value ...] [--dry-run]
    ray job submit --working-dir . -- python train_grpo.py recipes/tiny.yaml run.root=/absolute/path
"""

from __future__ import annotations

import argparse
import asyncio

from actors.training import prepare, train_grpo
from cluster.command import INTERRUPTED, command
from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from recipe import dump_recipe, load_recipe


def main(arguments: list[str]) -> int:
    """Run the recipe; the exit code."""
    parser = argparse.ArgumentParser(prog="train_grpo.py", description="RL fine-tuning of a driving VLM (GRPO).")
    parser.add_argument("recipe", help="YAML file, such as recipes/tiny.yaml")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value", help="such as learner.lr=1e-4")
    parser.add_argument("--dry-run", action="store_true", help="print recipe, placement and estimate; start nothing")
    options = parser.parse_args(arguments)
    recipe = load_recipe([options.recipe, *options.overrides])
    plan = resource_plan(recipe)
    if options.dry_run:
        print(dump_recipe(recipe), plan.describe(), sep="\n")
        return 0
    run = prepare(recipe)
    with session(recipe):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        complete = asyncio.run(train_grpo(run, placement.options))
        placement.release()
    return 0 if complete else INTERRUPTED


if __name__ == "__main__":
    command(main)
