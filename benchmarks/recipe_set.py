"""A folder of recipes, each run with several seeds from one starting policy, and what each reaches on held-out scenes.

    python -m benchmarks.recipe_set recipes/strategies [--seeds 0 1 2] [--root runs/sets] [part.key=value ...]

`base.yaml` of the folder is run first; the others begin with the policy it leaves. Runs that are finished are not run
again. Prints a table of means with 95 % intervals over the seeds and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from commands.script import guarded
from data.sample import TASKS
from evaluation.held_out import EvaluationResult
from evaluation.numbers import fixed
from recipe import RecipeError, load_stages

ROOT = Path(__file__).resolve().parents[1]
BASE = "base"
CONFIDENCE = 0.95


def main(arguments: Sequence[str]) -> int:
    """Run the set and print what it reached; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="recipes, one of them base.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs/sets"), help="folder of the runs")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: run_set(options))


def run_set(options: argparse.Namespace) -> int:
    """Run the recipes of `options.folder`; the exit code.

    Raises:
        RecipeError: the folder is no set of recipes, or one of them cannot be used.
    """
    if not (options.folder / f"{BASE}.yaml").is_file():
        raise RecipeError(
            f"{options.folder} holds no {BASE}.yaml: name a folder of recipes, such as recipes/strategies"
        )
    names = [BASE, *sorted(path.stem for path in options.folder.glob("*.yaml") if path.stem != BASE)]
    found: dict[str, list[EvaluationResult]] = {name: [] for name in names}
    for seed in options.seeds:
        root = (options.root / options.folder.name / f"seed-{seed}").resolve()
        for name in names:
            found[name].append(measured(options.folder / f"{name}.yaml", root, seed, options.overrides))
    figures = {name: of_recipe(rewards_of(results)) for name, results in found.items()}
    figures |= {name: of_recipe(rewards) for name, rewards in of_specialists(found).items()}
    print(table(figures))
    print(json.dumps({"folder": str(options.folder), "seeds": options.seeds, "recipes": figures}))
    return 0


def measured(recipe: Path, root: Path, seed: int, overrides: Sequence[str]) -> EvaluationResult:
    """What a recipe's last stage reaches with one seed; it is run where it was not before."""
    arguments = [str(recipe.resolve()), f"run.root={root}", f"run.seed={seed}", f"data.seed={seed}", *overrides]
    if recipe.stem != BASE:
        arguments.append(f"policy.model={root / BASE / 'policy'}")
    last = load_stages(arguments)[-1]
    after = root / last.run.name / "evaluation" / "after.json"
    print(f"{recipe.stem}, seed {seed}", flush=True)
    run_once(after, "train_grpo.py", *arguments, "run.resume=true")
    return EvaluationResult.from_json(after.read_text())


def run_once(leaves: Path, *arguments: str) -> None:
    """Run one of the scripts, unless what it leaves is there from the very same command."""
    kept, command = leaves.with_name(f"{leaves.name}.command"), json.dumps(arguments, indent=1)
    if leaves.exists():
        if kept.is_file() and kept.read_text() != command:
            sys.exit(f"error: {leaves} was left by another command ({kept}): choose another --root")
        return
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
    kept.write_text(command)


Rewards = list[dict[str, float]]
"""For each seed the reward of each task, their `mean`, and `behavior_accuracy` in percent."""


def rewards_of(results: Sequence[EvaluationResult]) -> Rewards:
    """What a recipe's runs reached."""
    rewards = []
    for result in results:
        found = {str(task): of_task.reward for task, of_task in result.tasks.items() if of_task.reward is not None}
        accuracy = {} if result.behavior_accuracy is None else {"behavior_accuracy": 100 * result.behavior_accuracy}
        rewards.append(found | {"mean": fmean(found.values())} | accuracy)
    return rewards


def of_specialists(found: Mapping[str, Sequence[EvaluationResult]]) -> dict[str, Rewards]:
    """Where there is a recipe `NAME_TASK` for each task: `NAME`, each task by the run that learnt it alone."""
    names = {name.removesuffix(f"_{TASKS[0]}") for name in found if name.endswith(f"_{TASKS[0]}")}
    whole = {name for name in names if all(f"{name}_{task}" in found for task in TASKS) and name != "without"}
    specialists: dict[str, Rewards] = {}
    for name in whole:
        of_tasks = {task: rewards_of(found[f"{name}_{task}"]) for task in TASKS}
        seeds = range(len(of_tasks[TASKS[0]]))
        own = [{str(task): of_tasks[task][seed][task] for task in TASKS} for seed in seeds]
        accuracy = [{"behavior_accuracy": of_tasks["behavior"][seed]["behavior_accuracy"]} for seed in seeds]
        specialists[name] = [row | {"mean": fmean(row.values())} | accuracy[seed] for seed, row in enumerate(own)]
    return specialists


def of_recipe(rewards: Rewards) -> dict[str, dict[str, float | None]]:
    """Mean and half width of the interval of everything there is."""
    columns = (*TASKS, "mean", "behavior_accuracy")
    return {column: interval([row[column] for row in rewards if column in row]) for column in columns}


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """The mean of some seeds and the half width of its interval by Student's t; None where there is none."""
    if not values:
        return {"mean": None, "half_width": None}
    if len(values) == 1:
        return {"mean": values[0], "half_width": None}
    width = float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return {"mean": fmean(values), "half_width": width}


def table(figures: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """The figures for people."""
    columns = list(next(iter(figures.values())))
    lines = [f"{'recipe':<22}" + "".join(f"{column:>20}" for column in columns)]
    for name, row in figures.items():
        cells = (f"{fixed(row[c]['mean'])} ± {fixed(row[c]['half_width'])}" for c in columns)
        lines.append(f"{name:<22}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
