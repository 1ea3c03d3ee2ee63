"""What `train_sft.py` does: the supervised steps of a recipe, on the learners alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from actors.inputs import read_inputs
from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from cluster.shared_storage import check_shared
from commands.dry_run import dry_run
from commands.script import INTERRUPTED, parse_recipe
from commands.stopped import stopped
from data.formats.format import format_of
from evaluation.run_record import POLICY_FOLDER
from recipe import RecipeError


def supervise(arguments: list[str]) -> int:
    """Run the recipe's supervised steps; the exit code."""
    recipe, only_shown = parse_recipe("train_sft.py", "Supervised fine-tuning of a driving VLM.", arguments)
    if recipe.warm_start.steps == 0:
        raise RecipeError("warm_start.steps is 0, so there is nothing to train: set warm_start.steps=200, for example")
    if only_shown:
        print(dry_run(recipe, roles=["learner"]))
        return 0
    if recipe.run.resume and (policy := recipe.run.folder / POLICY_FOLDER).is_dir():
        print(f"{recipe.run.name} is finished: {policy}")
        return 0
    format_of(recipe.data)
    plan = resource_plan(recipe, roles=["learner"])
    print(f"{recipe.run.name}: {recipe.warm_start.steps} supervised steps; reading the data, then torch", flush=True)
    inputs = read_inputs(recipe)
    # Imported here, because torch and DeepSpeed take seconds, and --help and a refused recipe do not need them.
    from actors.supervision.own_node import on_living_node
    from actors.training import prepare, train_sft

    try:
        run = prepare(recipe, inputs, engines=False)
        with session(recipe):
            placement = place(plan, recipe.cluster.placement_timeout_s)
            check_shared(placement, Path(recipe.run.root).expanduser())
            complete = asyncio.run(on_living_node(train_sft(run, placement.options)))
            placement.release()
    except (KeyboardInterrupt, asyncio.CancelledError):
        complete = False
    if not complete:
        print(stopped(recipe), flush=True)
    return 0 if complete else INTERRUPTED
