"""What `evaluate.py` does: a benchmark, a predictions file, two runs, or a policy on its recipe's held-out scenes.

What needs torch, Ray or a cluster is imported only when it is asked for: scoring a file starts at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from actors.settings import RunSettings
from commands.suite_run import SuiteRun
from data.errors import DataError, one_line
from evaluation.held_out import EvaluationResult
from evaluation.metrics.predictions import NO_PREDICTIONS, PredictionsFile
from evaluation.run_list import runs_in
from evaluation.suites.file_scoring import print_scored
from evaluation.suites.registry import SUITES, suite_class
from evaluation.suites.suite import Suite
from extension import ExtensionError, add_flags, from_flags, nearest
from rewards.errors import RewardError

COMPARE = "compare"


def main(arguments: list[str]) -> int:
    """Evaluate; the exit code."""
    if arguments and _is_suite(arguments[0]):
        return run_suite(arguments[0], arguments[1:])
    if arguments and arguments[0] == COMPARE:
        return compare_runs(arguments[1:])
    return measure_policy(arguments)


def _is_suite(name: str) -> bool:
    """A built-in benchmark, or a `module:Class`."""
    return name in SUITES or (":" in name and not name.startswith("-") and not Path(name).exists())


def compare_runs(arguments: list[str]) -> int:
    """Compare two runs; the exit code. Input that must be mended is one sentence and exit code 2."""
    from commands import compare

    purpose = "Two runs on the same questions: differences with intervals, and a page of the answers that changed."
    parser = argparse.ArgumentParser(prog=f"evaluate.py {COMPARE}", description=purpose)
    compare.add_arguments(parser)
    try:
        return compare.run(from_flags(compare.Comparison, parser.parse_args(arguments)))
    except (DataError, ExtensionError) as error:
        return _refused(error)


def run_suite(name: str, arguments: list[str]) -> int:
    """Run a benchmark; the exit code. Input that must be mended is one sentence and exit code 2."""
    try:
        suite = suite_class(name, "SUITE")
        parser = _suite_parser(name, suite)
        given, rest = parser.parse_known_intermixed_args(arguments)
        if rest:
            raise ExtensionError(_unknown(rest[0], suite))
        options = from_flags(suite.Options, given)
        if not suite.asks:
            print_scored(suite(options).score(NO_PREDICTIONS))
            return 0
        run = from_flags(SuiteRun, given)
        if (run.model is None) == (given.predictions is None):
            raise DataError("name either --model, which is asked, or --predictions, which are scored")
        file = None if given.predictions is None else from_flags(PredictionsFile, given)
        if file is not None and run.from_file_alone:
            print_scored(suite(options).score(suite(options).predictions(file)))
            return 0
    except (DataError, RewardError, ExtensionError) as error:
        return _refused(error)
    from commands import measure_suite
    from commands.script import guarded

    return guarded(lambda: measure_suite.run(name, suite, options, run, file))


def _refused(error: Exception) -> int:
    print(f"error: {one_line(str(error))}", file=sys.stderr)
    return 2


def _suite_parser(name: str, suite: type[Suite]) -> argparse.ArgumentParser:
    """The flags of a suite, and of what asks its questions, where they can be asked.

    Raises:
        ExtensionError: an option of the suite has the name of one of the command's own flags.
    """
    words = [f"{suite.title}.", *(suite.__doc__ or "").split()]
    parser = argparse.ArgumentParser(prog=f"evaluate.py {name}", description=" ".join(words).replace("%", "%%"))
    if not suite.asks:
        add_flags(parser, suite.Options, skip=["limit"])
        return parser
    if twice := _own_flags().intersection(suite.Options.model_fields):
        raise ExtensionError(f"SUITE={name}: its option {min(twice)} is a flag of evaluate.py: call it otherwise")
    add_flags(parser, suite.Options)
    add_flags(parser.add_argument_group("scoring a predictions file"), PredictionsFile, skip=["strict"])
    model = parser.add_argument_group("asking a model (instead of --predictions)")
    add_flags(model, SuiteRun, skip=["overrides"])
    help_ = SuiteRun.model_fields["overrides"].description
    model.add_argument("overrides", nargs="*", metavar="part.key=value", help=help_)
    return parser


def _own_flags() -> set[str]:
    """What no option of a suite may be called; `strict` is the suite's and the file's."""
    return {*PredictionsFile.model_fields, *SuiteRun.model_fields} - {"strict"}


def _unknown(argument: str, suite: type[Suite]) -> str:
    fields = [*suite.Options.model_fields, *(sorted(_own_flags() - {"overrides"}) if suite.asks else ())]
    flag, known = argument.partition("=")[0], [f"--{field.replace('_', '-')}" for field in fields]
    return f"unknown option {flag} ({nearest(flag, known)})"


def measure_policy(arguments: list[str]) -> int:
    """Measure the policy of a recipe or run folder on its held-out scenes; the exit code."""
    import asyncio

    from cluster.placement import place
    from cluster.plan import Role, resource_plan
    from cluster.session import session
    from commands.dry_run import dry_run
    from commands.script import parse_recipe
    from data.formats.format import format_of

    suites = "; ".join(f"{name}: {suite_class(name).title}" for name in SUITES)
    description = (
        "Per-task scores on held-out scenes, of a recipe's policy, or of the policy of a run folder that stands in the "
        f"recipe's place. With a benchmark's name instead of a recipe: {suites}. `evaluate.py {COMPARE}` sets two runs "
        "side by side."
    )
    recipe, only_shown = parse_recipe("evaluate.py", description, _of_run_folder(arguments))
    roles: list[Role] = ["rollout", "judge", "clip", "environment"]
    if only_shown:
        print(dry_run(recipe, roles))
        return 0
    format_of(recipe.data)
    plan = resource_plan(recipe, roles=roles)
    # Imported here: torch takes seconds, and --help needs none.
    from actors.supervision.own_node import on_living_node
    from actors.training import drive_policy, evaluate_policy

    with session(recipe):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        if recipe.environment is not None:
            driven = asyncio.run(on_living_node(drive_policy(recipe, placement.options)))
            placement.release()
            print(json.dumps({part: of_part.model_dump() for part, of_part in driven.parts.items()}))
            return 0
        result = asyncio.run(on_living_node(evaluate_policy(recipe, placement.options)))
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

    if not arguments:
        raise RecipeError(_what_there_is())
    if arguments[0].startswith("-") or Path(arguments[0]).is_file():
        return arguments
    if not Path(arguments[0]).is_dir():
        hint = nearest(arguments[0], [*SUITES, COMPARE])
        raise RecipeError(f"{arguments[0]} is no recipe file, no run folder and no benchmark ({hint})")
    return recipe_arguments(arguments[0], None, arguments[1:])


def _what_there_is() -> str:
    """What `evaluate.py` can take, for one who typed it alone."""
    runs = ", ".join(map(str, runs_in(Path(RunSettings.model_fields["root"].default)))) or "none"
    return (
        f"name what to evaluate: the folder of a run (here: {runs}), a recipe (recipes/tiny.yaml), a benchmark "
        f"({', '.join(SUITES)}), or {COMPARE} and two runs; --help says more"
    )


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
    if arguments and (_is_suite(arguments[0]) or arguments[0] == COMPARE):
        return main(arguments)
    from commands.script import guarded

    return guarded(lambda: main(arguments))
