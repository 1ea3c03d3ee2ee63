"""What records cost a step: sample tables, the live report and both trackers, beside a journal without them.

    python -m benchmarks.records [--steps 30] [--step-s 2]

Journals made-up steps of 32 questions with 8 responses each, about six drawn images, at the pace of real steps: once
with TensorBoard alone, once with W&B (offline), MLflow (SQLite), a table of samples every 10 steps and the live report.
Prints, last, one JSON object: what a call of the journal takes, and all CPU time beyond the plain journal's, as shares
of a step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from actors.record.journal import Journal
from actors.record.run_folder import create_run_folder
from data.rendered.samples import rendered_samples
from data.rollout import Rollout
from data.sample import DrivingSample
from evaluation.rollout_rows import write_rollouts
from evaluation.run_record import samples_path
from recipe import load_recipe
from rewards.group import Group, ScoredRollout
from rewards.score import Score

QUESTIONS, RESPONSES = 32, 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="steps of each of the two runs")
    parser.add_argument("--step-s", type=float, default=2.0, help="seconds of a step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        samples = list(rendered_samples(Path(scratch) / "scenes", QUESTIONS, 0))[:QUESTIONS]
        plain = journalled(Path(scratch), samples, options, "run.live_report_s=0")
        trackers = "run.trackers={wandb: {mode: offline}, mlflow: {}}"
        whole = journalled(Path(scratch), samples, options, "run.live_report_s=20", trackers)
    paced = options.steps * options.step_s
    figures = {
        "step_s": options.step_s,
        "steps": options.steps,
        "journal_ms": 1000 * plain["record_s"] / options.steps,
        "with_all_ms": 1000 * whole["record_s"] / options.steps,
        "blocking_share": (whole["record_s"] - plain["record_s"]) / paced,
        "cpu_share": (whole["cpu_s"] - plain["cpu_s"]) / paced,
        "close_s": whole["close_s"],
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def journalled(root: Path, samples: list[DrivingSample], options: Any, *overrides: str) -> dict[str, float]:
    """Seconds in the journal's calls, CPU seconds of all processes while the steps went, and seconds of closing."""
    name = f"run.name=run-{len(overrides)}"
    recipe = load_recipe(["recipes/tiny.yaml", f"run.root={root}", name, f"run.steps={options.steps}", *overrides])
    folder, record_s = create_run_folder(recipe), 0.0
    with Journal(recipe, folder) as journal:
        journal.record(1, groups(samples, 1), {"loss": 1.0})  # libraries are imported, and tables made, at the first
        time.sleep(15.0)
        began = cpu_seconds()
        for step in range(2, options.steps + 2):
            batch, due = groups(samples, step), time.monotonic() + options.step_s
            write_rollouts(samples_path(folder, step), step, batch, {})
            called = time.monotonic()
            journal.record(step, batch, {"loss": 1.0 / step, "kl": 0.01 * step, "step_s": options.step_s})
            record_s += time.monotonic() - called
            time.sleep(max(0.0, due - time.monotonic()))
        spent, closing = cpu_seconds() - began, time.monotonic()
        journal.close()
    return {"record_s": record_s, "cpu_s": spent, "close_s": time.monotonic() - closing}


def groups(samples: list[DrivingSample], step: int) -> list[Group]:
    """A made-up batch."""
    made = []
    for sample in samples:
        rollout = Rollout("r", sample.id, (1,) * 60, (5, 2), (-0.1, -0.2), "B", "stop", step, "engine 0", 0.0, 1.0)
        scored = [
            ScoredRollout(replace(rollout, request_id=str(n)), Score(100.0 * (n % 2), {"option": 100.0 * (n % 2)}), 1.0)
            for n in range(RESPONSES)
        ]
        made.append(Group(sample, tuple(scored)))
    return made


def cpu_seconds() -> float:
    """User and system time of this process and those it has started."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return float(sum(sum(process.cpu_times()[:2]) for process in family))


if __name__ == "__main__":
    main()
