"""Does RL in the closed loop beat more imitation? One seed of `recipes/tiny_closed_loop.yaml`, measured.

    python -m benchmarks.closed_loop [--seed 0] [part.key=value ...]
    python -m benchmarks.closed_loop --pool runs/closed_loop-0 runs/closed_loop-1 runs/closed_loop-2

The policy copies the expert until its held-out loss stops falling; from there RL drives, and a control goes on copying
for the wall time of RL, from demonstrations of as many fresh scenarios as RL drove. All three are measured on the same
held-out scenarios, and on families that nobody trained on. Prints, last, one JSON object; `--pool` adds the paired
bootstrap over the scenarios of several seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from evaluation.driving import DrivingResult, EpisodeRecord, paired_gain, read_driving
from recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
MEASURED = {"before": "before", "after": "after", "control": "continued_warm_start"}


def main(recipe_name: str = "tiny_closed_loop", run_name: str = "closed_loop", about: str | None = __doc__) -> None:
    """Run one seed, or pool finished runs, and print the figures."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenarios, the policy and the sampling")
    parser.add_argument("--pool", type=Path, nargs="+", help="finished run folders, one a seed; runs nothing")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_args()
    if options.pool:
        print(json.dumps(pooled(options.pool)))
        return
    seed = options.seed
    arguments = [
        str(ROOT / f"recipes/{recipe_name}.yaml"),
        f"run.name={run_name}-{seed}",
        f"run.seed={seed}",
        f"data.seed={seed}",
        *options.overrides,
    ]
    recipe, began = load_recipe(arguments), time.time()
    code = subprocess.run([sys.executable, str(ROOT / "train_grpo.py"), *arguments], cwd=ROOT).returncode
    if code:
        sys.exit(code)
    print(json.dumps(figures(recipe.run.folder) | {"minutes": round((time.time() - began) / 60, 1)}))


def measured(folder: Path) -> dict[str, DrivingResult]:
    """A run's measurements: `before`, `after`, and `control` where its recipe asks for one."""
    asked = load_recipe([str(folder / "recipe.yaml")]).evaluation.control
    wanted = {name: kept for name, kept in MEASURED.items() if asked or name != "control"}
    found = {name: read_driving(folder, kept) for name, kept in wanted.items()}
    if lacking := [name for name, result in found.items() if result is None]:
        sys.exit(f"{folder} has no measurement {lacking[0]}: let the run end")
    return {name: result for name, result in found.items() if result is not None}


def figures(folder: Path) -> dict[str, object]:
    """The figures of one run."""
    results = measured(folder)
    found: dict[str, object] = {"run": folder.name}
    for part, suffix in (("scenarios", ""), ("families", "_held_out_families")):
        for name, result in results.items():
            of_part = result.parts[part]
            found[f"driving_score_{name}{suffix}"] = round(of_part.driving_score, 1)
            found[f"success_{name}{suffix}"] = round(of_part.success, 1)
            found[f"collisions_{name}{suffix}"] = round(of_part.collisions, 2)
            found[f"turns_{name}{suffix}"] = round(of_part.turns, 1)
        found[f"episodes{suffix}"] = results["after"].parts[part].episodes
    phases = json.loads((folder / "phases.json").read_text())
    return found | {
        name: round(phases[name], 1) for name in ("warm_start", "reinforcement", "control") if name in phases
    }


def pooled(folders: Iterable[Path]) -> dict[str, object]:
    """RL against the start and against the control, over the scenarios of several runs: paired, with intervals.

    Without the control where no run has one.
    """
    folders = list(folders)
    runs = [measured(folder) for folder in folders]
    names = list(runs[0])
    if unlike := [folder for folder, run in zip(folders, runs, strict=True) if list(run) != names]:
        sys.exit(f"of {folders[0]} and {unlike[0]} only one has a control: pool runs of one kind")
    found: dict[str, object] = {"seeds": len(runs)}
    for part, suffix in (("scenarios", ""), ("families", "_held_out_families")):
        scores = {name: [score for run in runs for score in _scores(run[name].episodes, part)] for name in names}
        for name, values in scores.items():
            found[f"driving_score_{name}{suffix}"] = round(statistics.fmean(values), 1)
        for other in [name for name in names if name != "after"]:
            gain = paired_gain(scores[other], scores["after"])
            found[f"gain_over_{other}{suffix}"] = {name: round(value or 0.0, 1) for name, value in gain.items()}
    return found


def _scores(episodes: Iterable[EpisodeRecord], part: str) -> list[float]:
    """In an order that is the same for every measurement of a run."""
    own = sorted((one.scenario, one.seed, one.driving_score) for one in episodes if one.part == part)
    return [score for _, _, score in own]


if __name__ == "__main__":
    main()
