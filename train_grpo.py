"""Reinforcement learning of a driving policy: sample, score, learn, sync.

python train_grpo.py recipes/tiny.yaml [part.key=value ...] [--dry-run]
ray job submit --working-dir . -- python train_grpo.py recipes/tiny.yaml run.root=/absolute/path
"""

from __future__ import annotations

import asyncio

from actors.training import prepare, train_grpo
from cluster.command import INTERRUPTED, command, parse_recipe
from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from recipe import dump_recipe


def main(arguments: list[str]) -> int:
    """Run the recipe; the exit code."""
    recipe, dry_run = parse_recipe("train_grpo.py", "RL fine-tuning of a driving VLM (GRPO).", arguments)
    plan = resource_plan(recipe)
    if dry_run:
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
