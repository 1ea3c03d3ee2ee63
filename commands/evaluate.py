"""What `evaluate.py` does: a benchmark, a predictions file, two runs, or a policy on its recipe's held-out scenes.

What needs torch, Ray or a cluster is imported only when it is asked for: scoring a file starts at once.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

from data.errors import DataError
from evaluation.held_out import EvaluationResult
from evaluation.suites.file_scoring import print_scored
from evaluation.suites.registry import SUITES, suite_of
from rewards.errors import RewardError

COMPARE = "compare"


def main(arguments: list[str]) -> int:
    """Evaluate; the exit code."""
    if arguments and arguments[0] in SUITES:
        return run_suite(arguments[0], arguments[1:])
    if arguments and arguments[0] == COMPARE:
        return compare_runs(arguments[1:])
    return measure_policy(arguments)


def compare_runs(arguments: list[str]) -> int:
    """Compare two runs; the exit code. Input that must be mended is one sentence and exit code 2."""
    from commands import compare

    purpose = "Two runs on the same questions: differences with intervals, and a page of the answers that changed."
    parser = argparse.ArgumentParser(prog=f"evaluate.py {COMPARE}", description=purpose)
    compare.add_arguments(parser)
    try:
        return compare.run(parser.parse_args(arguments))
    except DataError as error:
        return _refused(error)


def run_suite(name: str, arguments: list[str]) -> int:
    """Run a benchmark; the exit code. Input that must be mended is one sentence and exit code 2."""
    suite, entry = suite_of(name), SUITES[name]
    parser = argparse.ArgumentParser(prog=f"evaluate.py {name}", description=entry.title)
    suite.add_arguments(parser)
    if entry.asks:
        _add_model_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    try:
        if not entry.asks:
            print_scored(suite.score(options))
            return 0
        if (options.model is None) == (options.predictions is None):
            raise DataError("name either --model, which is asked, or --predictions, which are scored")
        if options.model is None and options.out is None and options.recipe is None and not options.overrides:
            print_scored(suite.score(options))
            return 0
    except (DataError, RewardError) as error:
        return _refused(error)
    from commands import measure_suite
    from commands.script import guarded

    return guarded(lambda: measure_suite.run(name, options))


def _refused(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What asking a model, and having answers judged, adds to a suite's options."""
    model = parser.add_argument_group("asking a model (instead of --predictions)")
    places = "checkpoint folder, hub name, folder of a finished run, or URL of an endpoint (key: OPENAI_API_KEY)"
    model.add_argument("--model", help=places)
    model.add_argument("--served-model", help="what the endpoint at the URL calls its model")
    model.add_argument("--temperature", type=float, default=0.2, help="of sampling (default: 0.2)")
    model.add_argument("--repeats", type=int, default=3, help="times each question is asked; averaged (default: 3)")
    model.add_argument("--limit", type=int, help="ask so many questions or a few more: whole frames, drawn by the seed")
    model.add_argument(
        "--seed", type=int, default=0, help="of sampling (GPU engines, endpoints) and of --limit (default: 0)"
    )
    model.add_argument("--out", type=Path, help="folder of answers, results.json and report (default: in run.root)")
    model.add_argument("--recipe", type=Path, help="engines, images and judge (default: recipes/evaluate.yaml)")
    what = "of the recipe; reward.judge.model=NAME has answers judged"
    model.add_argument("overrides", nargs="*", metavar="part.key=value", help=what)


def measure_policy(arguments: list[str]) -> int:
    """Measure the policy of a recipe or run folder on its held-out scenes; the exit code."""
    import asyncio

    from cluster.placement import place
    from cluster.plan import Role, resource_plan
    from cluster.session import session
    from commands.dry_run import dry_run
    from commands.script import parse_recipe
    from data.formats.format import format_of

    suites = "; ".join(f"{name}: {suite.title}" for name, suite in SUITES.items())
    description = (
        "Per-task scores on held-out scenes, of a recipe's policy, or of the policy of a run folder that stands in the "
        f"recipe's place. With a benchmark's name instead of a recipe: {suites}. `evaluate.py {COMPARE}` sets two runs "
        "side by side."
    )
    recipe, only_shown = parse_recipe("evaluate.py", description, _of_run_folder(arguments))
    roles: list[Role] = ["rollout", "judge", "clip"]
    if only_shown:
        print(dry_run(recipe, roles))
        return 0
    format_of(recipe.data)
    plan = resource_plan(recipe, roles=roles)
    from actors.training import evaluate_policy  # here, because it brings torch: seconds that --help need not wait for

    with session(recipe):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        result = asyncio.run(evaluate_policy(recipe, placement.options))
        placement.release()
    print(_table(result))
    tasks = {task: of_task.model_dump() for task, of_task in result.tasks.items()}
    print(
        json.dumps({"reward": result.reward, "samples": result.samples, "scenes": len(result.scenes), "tasks": tasks})
    )
    return 0


def _of_run_folder(arguments: list[str]) -> list[str]:
    """A run folder stands for its resolved recipe with its final policy as the model."""
    from commands.model_recipe import recipe_arguments
    from recipe import RecipeError

    if not arguments or arguments[0].startswith("-") or Path(arguments[0]).is_file():
        return arguments
    if not Path(arguments[0]).is_dir():
        names = [*SUITES, COMPARE]
        close = difflib.get_close_matches(arguments[0], names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"benchmarks: {', '.join(SUITES)}"
        raise RecipeError(f"{arguments[0]} is no recipe file, no run folder and no benchmark ({hint})")
    return recipe_arguments(arguments[0], None, arguments[1:])


def _table(result: EvaluationResult) -> str:
    lines = [f"{'task':<12}{'questions':>10}{'reward':>9}{'accuracy':>10}{'majority':>10}{'valid':>8}"]
    for task, of_task in result.tasks.items():
        shares = (of_task.accuracy, of_task.majority_accuracy, of_task.valid_format)
        accuracy, majority, valid = ("-" if share is None else f"{share:.2f}" for share in shares)
        reward = "-" if of_task.reward is None else f"{of_task.reward:.1f}"
        lines.append(f"{task:<12}{of_task.samples:>10}{reward:>9}{accuracy:>10}{majority:>10}{valid:>8}")
    return "\n".join(lines)


def run(arguments: list[str]) -> int:
    """Evaluate as `main`; what a person must mend is one sentence and an exit code, whatever was asked for."""
    if arguments and arguments[0] in (*SUITES, COMPARE):
        return main(arguments)
    from commands.script import guarded

    return guarded(lambda: main(arguments))
