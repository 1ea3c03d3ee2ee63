"""Measure a policy on the held-out scenes of its recipe, or answers on a published benchmark. Prints a table and, last,
one JSON object.

python evaluate.py runs/tiny                                        the policy a run left behind
python evaluate.py recipes/tiny.yaml policy.model=runs/warm/policy  any checkpoint, on a recipe's data
python evaluate.py drivelm --predictions output.json --answers test_eval.json      a benchmark, from files
python evaluate.py compare runs/first runs/second                   two runs, question by question
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from evaluation.held_out import EvaluationResult
from rewards.errors import RewardError


@dataclass(frozen=True, slots=True)
class Suite:
    """A benchmark: what it measures, and the module with its `add_arguments(parser)` and `run(options) -> exit code`.

    The module is imported when its suite is asked for: scoring from files needs neither Ray nor torch.
    """

    help: str
    module: str


SUITES = {
    "drivelm": Suite("the DriveLM challenge: accuracy, language, match and final score", "evaluation.drivelm_suite"),
    "bdd_oia": Suite("BDD-OIA: F1 of actions and of reasons", "evaluation.bdd_oia_suite"),
    "drivelmm_o1": Suite("DriveLMM-o1: accuracy on multiple choice", "evaluation.drivelmm_o1_suite"),
    "driveaction": Suite("DriveAction: accuracy per level", "evaluation.driveaction_suite"),
    "open_loop": Suite("open-loop planning on nuScenes: displacement", "evaluation.open_loop_suite"),
    "bench2drive": Suite("Bench2Drive: the leaderboard's four figures", "evaluation.bench2drive_suite"),
}

COMMANDS = SUITES | {
    "compare": Suite("two runs on the same questions: differences with intervals", "evaluation.compare_command"),
}


def main(arguments: list[str]) -> int:
    """Evaluate; the exit code."""
    if arguments and arguments[0] in COMMANDS:
        return run_suite(arguments[0], arguments[1:])
    return measure_policy(arguments)


def run_suite(name: str, arguments: list[str]) -> int:
    """Run a benchmark, or the comparison; the exit code. Input that must be mended is one sentence and exit code 2."""
    suite = importlib.import_module(COMMANDS[name].module)
    parser = argparse.ArgumentParser(prog=f"evaluate.py {name}", description=COMMANDS[name].help)
    suite.add_arguments(parser)
    try:
        return int(suite.run(parser.parse_args(arguments)))
    except (DataError, RewardError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def measure_policy(arguments: list[str]) -> int:
    """Measure the policy of a recipe or run folder on its held-out scenes; the exit code."""
    import asyncio

    from actors.training import evaluate_policy
    from cluster.command import parse_recipe
    from cluster.placement import place
    from cluster.plan import resource_plan
    from cluster.session import session
    from recipe import dump_recipe

    suites = "; ".join(f"{name}: {suite.help}" for name, suite in SUITES.items())
    description = f"Per-task scores on held-out scenes. With a benchmark's name instead of a recipe: {suites}."
    recipe, dry_run = parse_recipe("evaluate.py", description, _of_run_folder(arguments))
    plan = resource_plan(recipe, roles=["rollout", "judge", "clip"])
    if dry_run:
        print(dump_recipe(recipe), plan.describe(), sep="\n")
        return 0
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
    from recipe import RecipeError

    folder = Path(arguments[0]) if arguments else Path()
    if not arguments or not folder.is_dir():
        return arguments
    for needed in ("recipe.yaml", "policy/config.json"):
        if not (folder / needed).is_file():
            raise RecipeError(f"{folder} is not the folder of a finished run: it has no {needed}")
    return [str(folder / "recipe.yaml"), f"policy.model={folder / 'policy'}", "policy.lora=null", *arguments[1:]]


def _table(result: EvaluationResult) -> str:
    lines = [f"{'task':<12}{'questions':>10}{'reward':>9}{'accuracy':>10}{'majority':>10}{'valid':>8}"]
    for task, of_task in result.tasks.items():
        shares = (of_task.accuracy, of_task.majority_accuracy, of_task.valid_format)
        accuracy, majority, valid = ("-" if share is None else f"{share:.2f}" for share in shares)
        reward = "-" if of_task.reward is None else f"{of_task.reward:.1f}"
        lines.append(f"{task:<12}{of_task.samples:>10}{reward:>9}{accuracy:>10}{majority:>10}{valid:>8}")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        sys.exit(main(sys.argv[1:]))
    from cluster.command import command

    command(main)
