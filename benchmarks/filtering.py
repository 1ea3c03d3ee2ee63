"""AutoDriveRL's Table 7 at tiny scale: RL on frames chosen by difficulty, beside RL on as many frames drawn from all.

    python -m benchmarks.filtering [--seeds 0 1 2] [--root runs/filtering] [--scenes 300] [--frames 60]

Draws rendered scenes, lets the base policy answer each question K = 8 times, scores the answers by rule, builds both
sets with `prepare_data.py build`, trains on each from the same base, and asks both about scenes that nobody trained on.
Every step is a command of its own; what is finished is not done again. Prints a table and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from commands.sweep import run_once
from data.difficulty import K
from data.jsonl import write_jsonl
from data.rendered.samples import rendered_samples
from data.sample import TASKS
from evaluation.numbers import fixed
from evaluation.seeds import interval
from evaluation.suites.record import read_results

RECIPES = Path("recipes/filtering")
MODELS = ("base", "filtered", "unfiltered")


def main() -> None:
    """Run the experiment with each seed and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs/filtering"), help="folder of the runs")
    parser.add_argument("--scenes", type=int, default=300, help="frames to choose from; a rendered scene has one")
    parser.add_argument("--frames", type=int, default=60, help="frames of each set")
    parser.add_argument("--band", type=float, nargs=2, default=(25.0, 45.0), help="difficulty of the filtered set")
    parser.add_argument("--questions", type=int, default=100, help="unseen scenes that measure")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {model: [] for model in MODELS}
    for seed in options.seeds:
        folder = (options.root / f"seed-{seed}").resolve()
        for model, scores in experiment(folder, seed, options).items():
            found[model].append(scores)
    figures = {
        model: {task: interval([one[task] for one in of_model]) for task in (*TASKS, "mean")}
        for model, of_model in found.items()
    }
    for model, row in figures.items():
        cells = (f"{fixed(row[task]['mean'])} ± {fixed(row[task]['half_width'])}" for task in row)
        print(f"{model:<12}" + "".join(f"{cell:>18}" for cell in cells))
    print(json.dumps({"seeds": options.seeds, "frames": options.frames, "band": list(options.band), "models": figures}))


def finish(leaves: Path, *arguments: str) -> None:
    """Run a script to its end, unless what it leaves is there already."""
    if code := run_once(leaves, *arguments):
        sys.exit(code)


def experiment(folder: Path, seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The score of each task, and their mean, of the base and of what was trained on either set."""
    common = [f"run.root={folder}", f"run.seed={seed}", f"data.seed={seed}", "run.resume=true"]
    samples = folder / f"samples-{options.scenes}.jsonl"
    if not samples.is_file():
        write_jsonl(samples, rendered_samples(folder / "scenes", options.scenes, seed + 10_000))
    finish(folder / "base" / "policy", "train_grpo.py", f"{RECIPES}/base.yaml", *common)
    scores = folder / "scores"
    asking = ["--model", f"{folder}/base", "--answers", str(samples), "--repeats", str(K), "--temperature", "0.7"]
    finish(scores / "results.json", "evaluate.py", "drivelm_hard", *asking, "--out", str(scores))
    band = [str(end) for end in options.band]
    choose = ["--frames", str(options.frames), "--seed", str(seed)]
    training = ["--scores", f"base={scores}", "--band", *band, *choose]
    for which, arguments in (("training", training), ("unfiltered", choose)):
        out = folder / f"{which}-set"
        finish(out / "samples.jsonl", "prepare_data.py", "build", which, str(samples), "--out", str(out), *arguments)
    for model, which in (("filtered", "training"), ("unfiltered", "unfiltered")):
        overrides = [
            f"data.options.annotations={folder}/{which}-set/samples.jsonl",
            f"policy.model={folder}/base/policy",
        ]
        finish(folder / model / "policy", "train_grpo.py", f"{RECIPES}/{model}.yaml", *common, *overrides)
    return {model: measured(folder, model, options.questions) for model in MODELS}


def measured(folder: Path, model: str, scenes: int) -> dict[str, float]:
    """What a model scores on scenes that no set holds."""
    out = folder / f"measured-{model}"
    asking = ["--model", str(folder / model), "--repeats", "1", "--temperature", "0", "--scenes", str(scenes)]
    finish(out / "results.json", "evaluate.py", "rendered", *asking, "--cache", str(folder), "--out", str(out))
    figures = read_results(out).figures
    return {task: spread.mean for task in (*TASKS, "mean") if (spread := figures[task]) is not None}


if __name__ == "__main__":
    main()
