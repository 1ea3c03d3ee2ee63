"""Run a recipe, or a folder of recipes, with several seeds and settings, and say what each reached on held-out scenes.

    python -m commands.sweep recipes/tiny.yaml --seeds 0 1 2 --set learner.lr=1e-4,2e-4 [part.key=value ...]
    python -m commands.sweep recipes/strategies            # a folder: base.yaml first, the others begin with its policy

A run that is finished is not run again, one that was interrupted goes on: the same command resumes a sweep. Writes
`sweep.html` after every run, and prints a table of means with 95 % intervals over the seeds and, last, one JSON
object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands.script import INTERRUPTED, guarded
from data.errors import DataError
from evaluation.held_out import EvaluationResult
from evaluation.numbers import fixed
from evaluation.pages.page import REPORT_FILE
from evaluation.pages.sweep_page import Point, write_sweep_page
from evaluation.run_record import evaluation_path, read_evaluation
from evaluation.seeds import Figure, columns_of, of_recipe, of_specialists, rewards_of
from extension import at_home
from policies.algorithms.registry import make_algorithm
from recipe import Recipe, RecipeError, load_stages

ROOT = Path(__file__).resolve().parents[1]
BASE = "base"
AFTER = "after"


@dataclass(frozen=True)
class Setting:
    """One thing that is run with every seed."""

    name: str
    recipe: Path
    overrides: tuple[str, ...] = ()
    from_base: bool = False
    """It begins with the policy that the set's base leaves."""


@dataclass
class Sweep:
    """Settings and seeds, where their runs go, and what is known of them."""

    name: str
    folder: Path
    settings: list[Setting]
    seeds: list[int]
    overrides: tuple[str, ...]
    found: dict[str, dict[int, EvaluationResult]] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    """Setting to the name of its runs' folders."""

    def arguments(self, setting: Setting, seed: int) -> list[str]:
        """The command line of one run, after the script's name."""
        root = self.folder / f"seed-{seed}"
        given = [str(setting.recipe.resolve()), f"run.root={root}", f"run.seed={seed}", f"data.seed={seed}"]
        if setting.overrides:
            given.append(f'run.name="{setting.name}"')
        given += [f"policy.model={root / BASE / 'policy'}"] if setting.from_base else []
        return [*given, *self.overrides, *setting.overrides]

    def report(self) -> tuple[dict[str, dict[str, Figure]], Path]:
        """What each setting reached so far, and the page that says so."""
        results = {name: list(by_seed.values()) for name, by_seed in self.found.items()}
        rewards = {name: rewards_of(of_name) for name, of_name in results.items()}
        rewards |= of_specialists(results)
        columns = columns_of(rewards)
        figures = {name: of_recipe(rows, columns) for name, rows in rewards.items()}
        points = [
            Point(name, figures[name], [(str(seed), self._link(name, seed)) for seed in self.found.get(name, {})])
            for name in figures
        ]
        goes_on = len(self.unfinished) + sum(map(len, self.found.values())) < len(self.settings) * len(self.seeds)
        unfinished = list(self.unfinished.items())
        page = write_sweep_page(self.folder, self.name, points, columns, self.seeds, unfinished, goes_on=goes_on)
        return figures, page

    def _link(self, name: str, seed: int) -> str:
        return f"seed-{seed}/{self.folders.get(name, name)}/{REPORT_FILE}"


def main(arguments: Sequence[str]) -> int:
    """Run the sweep and print what it reached; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="a recipe, or a folder of recipes of which one is base.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="part.key=A,B", help="values to try; several --set are crossed"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("runs/sweeps"), help="folder of sweeps (default: runs/sweeps)"
    )
    parser.add_argument("--name", help="folder of this sweep (default: the recipe's)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their commands; start none")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value", help="for every run")
    options = parser.parse_intermixed_args([at_home(one) for one in arguments])
    return guarded(lambda: run_sweep(options))


def run_sweep(options: argparse.Namespace) -> int:
    """Run what is not finished, one run after another; the exit code: 0, or 1 where a run failed.

    Raises:
        RecipeError: the recipe or folder cannot be used, or a setting is no `key=values`.
    """
    is_file = options.recipe.suffix in (".yaml", ".yml")
    settings = _of_recipe(options) if is_file else _of_folder(options.recipe, options.set)
    name = options.name or options.recipe.stem
    sweep = Sweep(name, (options.root / name).resolve(), settings, options.seeds, tuple(options.overrides))
    runs = [(setting, seed) for seed in sweep.seeds for setting in settings]
    recipes = {(setting.name, seed): load_stages(sweep.arguments(setting, seed))[-1] for setting, seed in runs}
    sweep.folders |= {name: recipe.run.name for (name, _), recipe in recipes.items()}
    if options.dry_run:
        for setting, seed in runs:
            print(f"{setting.name}, seed {seed}: {_shown(recipes[setting.name, seed], sweep.arguments(setting, seed))}")
        return 0
    sweep.folder.mkdir(parents=True, exist_ok=True)
    try:
        for setting, seed in runs:
            _run_one(sweep, setting, seed, recipes[setting.name, seed])
            sweep.report()
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    figures, page = sweep.report()
    print(table(figures))
    for run, why in sweep.unfinished.items():
        print(f"{run}: {why}")
    print(f"page: {page}")
    summary = {
        "sweep": name,
        "seeds": sweep.seeds,
        "recipes": figures,
        "unfinished": sweep.unfinished,
        "page": str(page),
    }
    print(json.dumps(summary))
    return 1 if sweep.unfinished else 0


def _of_recipe(options: argparse.Namespace) -> list[Setting]:
    """Every combination of the values that are to be tried."""
    axes = list(map(_axis, options.set))
    points = [
        dict(zip((key for key, _ in axes), values, strict=True)) for values in itertools.product(*(v for _, v in axes))
    ]
    if not axes:
        return [Setting(load_stages([str(options.recipe)])[-1].run.name, options.recipe)]
    return [
        Setting(
            ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items()).replace("/", "_"),
            options.recipe,
            tuple(f"{key}={value}" for key, value in point.items()),
        )
        for point in points
    ]


def _axis(given: str) -> tuple[str, list[str]]:
    key, equals, values = given.partition("=")
    if not (equals and key and all(values.split(","))):
        raise RecipeError(f"--set {given} must look like learner.lr=1e-4,2e-4")
    return key, values.split(",")


def _of_folder(folder: Path, axes: Sequence[str]) -> list[Setting]:
    """The recipes of a set, its base first."""
    if not (folder / f"{BASE}.yaml").is_file():
        raise RecipeError(f"{folder} holds no {BASE}.yaml: name a folder of recipes, such as recipes/strategies")
    if axes:
        raise RecipeError("--set tries values of one recipe; a folder holds what is compared: give one or the other")
    names = [BASE, *sorted(path.stem for path in folder.glob("*.yaml") if path.stem != BASE)]
    return [Setting(name, folder / f"{name}.yaml", from_base=name != BASE) for name in names]


def _script(recipe: Recipe) -> str:
    return "train_ppo.py" if make_algorithm(recipe.algorithm).has_critic else "train_grpo.py"


def _shown(recipe: Recipe, arguments: Sequence[str]) -> str:
    return " ".join(["python", _script(recipe), *arguments])


def _run_one(sweep: Sweep, setting: Setting, seed: int, recipe: Recipe) -> None:
    """Run what is not finished, and keep what it reached; a run that fails is counted, and the others go on."""
    label, after = f"{setting.name}, seed {seed}", evaluation_path(recipe.run.folder, AFTER)
    print(label, flush=True)
    try:
        code = run_once(after, _script(recipe), *sweep.arguments(setting, seed), "run.resume=true")
    except DataError as error:
        sweep.unfinished[label] = str(error)
        return
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code or not after.is_file():
        sweep.unfinished[label] = f"ended with exit code {code}; the same command tries it again"
        return
    sweep.found.setdefault(setting.name, {})[seed] = read_evaluation(after)


def run_once(leaves: Path, *arguments: str) -> int:
    """Run one of the scripts, unless what it leaves is there from the very same command; its exit code.

    Raises:
        DataError: another command left it.
    """
    kept, command = leaves.with_name(f"{leaves.name}.command"), json.dumps(arguments, indent=1)
    if leaves.exists():
        if kept.is_file() and kept.read_text() != command:
            raise DataError(f"{leaves} was left by another command ({kept}): choose another --root or --name")
        return 0
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
    if code == 0 and leaves.exists():
        kept.write_text(command)
    return code


def table(figures: Mapping[str, Mapping[str, Figure]]) -> str:
    """The figures for people."""
    if not figures:
        return "no run is finished"
    columns = list(next(iter(figures.values())))
    wide = max(22, 1 + max(map(len, figures)))
    return "\n".join(
        [f"{'setting':<{wide}}" + "".join(f"{column:>20}" for column in columns), *_rows(figures, columns, wide)]
    )


def _rows(figures: Mapping[str, Mapping[str, Figure]], columns: Sequence[str], wide: int) -> Iterator[str]:
    for name, row in figures.items():
        cells = (f"{fixed(row[c]['mean'])} ± {fixed(row[c]['half_width'])}" for c in columns)
        yield f"{name:<{wide}}" + "".join(f"{cell:>20}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
