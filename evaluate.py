"""Measure a policy on the held-out scenes of its recipe, per task. Prints a table and, last, one JSON object.

python evaluate.py runs/tiny                                        the policy a run left behind
python evaluate.py recipes/tiny.yaml policy.model=runs/warm/policy  any checkpoint, on a recipe's data
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from actors.training import evaluate_policy
from cluster.command import command, parse_recipe
from cluster.placement import place
from cluster.plan import resource_plan
from cluster.session import session
from evaluation.held_out import EvaluationResult
from recipe import RecipeError, dump_recipe


def main(arguments: list[str]) -> int:
    """Evaluate; the exit code."""
    recipe, dry_run = parse_recipe("evaluate.py", "Per-task scores on held-out scenes.", _of_run_folder(arguments))
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
    command(main)
