"""What the reinforcement scripts do: read the recipe, show it or run it, stage after stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from actors.inputs import launch_folder, read_inputs
from cluster.plan import check_named, resource_plan
from cluster.planned import keep_prediction
from commands.dry_run import dry_run
from commands.script import INTERRUPTED, PASSING, RETRY_WAIT_S, parse_arguments, start_again
from commands.stopped import stopped
from data.formats.format import format_of
from evaluation.numbers import counted_noun
from evaluation.pages.page import REPORT_FILE
from evaluation.run_record import POLICY_FOLDER, checkpoint_folder
from policies.algorithms.registry import make_algorithm
from recipe import Recipe, RecipeError, load_stages


def reinforcement(script: str, description: str, arguments: list[str], *, critic: bool) -> int:
    """Run the recipe that a command line names; the exit code.

    Args:
        script: name of the script, for its messages.
        description: what it does, for its help.
        arguments: the command line.
        critic: whether the script is for algorithms with a critic, or for those without.

    Raises:
        RecipeError: as `load_stages`, or the algorithm belongs to the other script.
        ExtensionError, DataError: a stage's dataset, engine or transport cannot be had with its options.
    """
    options = parse_arguments(script, description, arguments, example="tiny_a2c" if critic else "tiny")
    recipes = load_stages(options.given)
    for recipe in recipes:
        if make_algorithm(recipe.algorithm).has_critic != critic:
            other, has = ("train_grpo.py", "no") if critic else ("train_ppo.py", "a")
            raise RecipeError(f"algorithm.name={recipe.algorithm.name} has {has} critic: run it with {other}")
        if not options.dry_run:
            format_of(recipe.data)  # that of a later stage too: its errors come before the first one starts
            check_named(recipe)
    for recipe in recipes:
        if options.dry_run:
            print(dry_run(recipe, first=recipes[0]))
        elif len(recipes) > 1 and recipe.run.resume and is_finished(recipe):
            print(f"{recipe.run.name} is finished: going on with the next stage", flush=True)
        elif not _run_or_stop(recipe):
            return INTERRUPTED
    return 0


def _run_or_stop(recipe: Recipe) -> bool:
    """As `_run`; a run that is interrupted, however early, says where it stopped."""
    try:
        complete = _run(recipe)
    except PASSING as error:
        if (left := recipe.run.retries) > 0:
            print(
                f"{error}\nstarting again in {RETRY_WAIT_S:g} s; run.retries leaves {left - 1} after that", flush=True
            )
            start_again(left - 1)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        complete = False
    if not complete:
        print(stopped(recipe), flush=True)
    return complete


def _run(recipe: Recipe) -> bool:
    """Whether all steps were taken."""
    plan = resource_plan(recipe)
    print(starting(recipe), flush=True)
    with timed("data"):
        inputs = read_inputs(recipe)
    # Imported here, because Ray takes seconds, and --help and a refused recipe do not need it.
    from actors.rollout.pool import EnginePool
    from actors.supervision.own_node import on_living_node
    from cluster.placement import place
    from cluster.session import session
    from cluster.shared_storage import check_shared

    with ExitStack() as stack:
        with timed("ray"):
            stack.enter_context(session(recipe))
            placement = place(plan, recipe.cluster.placement_timeout_s)
            check_shared(placement, Path(recipe.run.root).expanduser())
            engines = EnginePool.launch(recipe, launch_folder(recipe, inputs), placement.options)
        with timed("policy"):  # the engines import vLLM meanwhile, and this torch and DeepSpeed
            from actors.training import prepare, run_reinforcement

            run = prepare(recipe, inputs)
            keep_prediction(recipe, run.folder)
        complete = asyncio.run(on_living_node(run_reinforcement(run, placement.options, engines=engines)))
        placement.release()
    return complete


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Print how long a part of the start took; `benchmarks/startup.py` reads it."""
    began = time.monotonic()
    yield
    print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)


def starting(recipe: Recipe) -> str:
    """The first line of a run."""
    engines, learners = recipe.rollout.engines, recipe.learner.ranks
    return (
        f"{recipe.run.name}: {recipe.run.steps} steps of {recipe.algorithm.name}; reading the data, then starting Ray, "
        f"{counted_noun(engines, f'{recipe.rollout.backend} engine')} and {counted_noun(learners, 'learner')}"
    )


def is_finished(recipe: Recipe) -> bool:
    """An interrupted stage leaves a policy and a report too, but no checkpoint of its last step."""
    folder = recipe.run.folder
    left = (folder / POLICY_FOLDER, folder / REPORT_FILE, checkpoint_folder(folder, recipe.run.steps))
    return all(path.exists() for path in left)
