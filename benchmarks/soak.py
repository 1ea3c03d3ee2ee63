"""A long run that loses an engine and a learner rank again and again, beside one that loses nothing.

    python -m benchmarks.soak [--steps 200] [--engine-every 20] [--learner-every 50]

Both train the tiny recipe with two engines and two learner ranks, from one seed. In one an engine's actor is killed
(SIGKILL) every 20 steps, and a learner rank every 50. Prints, last, one JSON object: what was lost, how the rewards of
the second half compare, and by how much memory grew from the step on by which everything has been restarted once.
Memory is what a process does not share with others (USS), of the driver and of all processes of the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.recovery import kill, steps_of
from evaluation.run_record import MASKED_ROLLOUTS, REWARD_MEAN, ROLLOUTS, RunRecord, read_run

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (
    "run.checkpoint_every=10",
    "warm_start.steps=60",
    "rollout.engines=2",
    "rollout.restarts=1000",
    "learner.ranks=2",
    "rollout.cpus=0.5",
    "learner.cpus=0.5",
    "rollout.prompts_per_step=8",
    "evaluation.before_and_after=false",
)
WANTED = 64
"""Responses of a step."""
STEADY_FROM = 50
MEASURED_EVERY = 5
MIB = 2**20


@dataclass
class Soaked:
    """What was seen of a run while it ran."""

    seconds: float = 0.0
    killed: int = 0
    memory: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, MiB of the driver, MiB of all processes."""


def main() -> None:
    """Run both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--engine-every", type=int, default=20)
    parser.add_argument("--learner-every", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        whole = soak(root, "unbroken", options.steps, {})
        killing = {options.engine_every: "ray::VllmEngine", options.learner_every: "ray::DeepSpeed"}
        broken = soak(root, "broken", options.steps, killing)
        runs = [read_run(Path(root, name)) for name in ("unbroken", "broken")]
        rewards = [second_half(run) for run in runs]
        last = runs[1].steps[-1]
        print(json.dumps({
            "steps": len(runs[1].steps),
            "killed": broken.killed,
            "engines_restarted": int(last["engines/restarted"]),
            "learner_restarts": int(last["learner/restarts"]),
            "rollouts_lost": sum(WANTED - int(step[ROLLOUTS]) + int(step[MASKED_ROLLOUTS]) for step in runs[1].steps),
            "reward_unbroken": round(statistics.fmean(rewards[0]), 1),
            "reward_broken": round(statistics.fmean(rewards[1]), 1),
            "reward_spread_of_steps": round(statistics.stdev(rewards[0]), 1),
            "driver_growth": growth([one[1] for one in broken.memory if one[0] >= STEADY_FROM]),
            "driver_growth_unbroken": growth([one[1] for one in whole.memory if one[0] >= STEADY_FROM]),
            "all_growth": growth([one[2] for one in broken.memory if one[0] >= STEADY_FROM]),
            "all_growth_unbroken": growth([one[2] for one in whole.memory if one[0] >= STEADY_FROM]),
            "seconds": [round(whole.seconds), round(broken.seconds)],
        }))  # fmt: skip


def soak(root: str, name: str, steps: int, killing: dict[int, str]) -> Soaked:
    """Train to the end, and kill what the steps say."""
    given = (f"run.name={name}", f"run.root={root}", f"run.steps={steps}", *SETTINGS)
    began, seen = time.time(), Soaked()
    process = subprocess.Popen(
        [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *given], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for step in steps_of(process):
        if step % MEASURED_EVERY == 0:
            seen.memory.append((step, *memory_of(process.pid)))
        for every, process_name in killing.items():
            if step % every == 0 and step < steps:
                kill(process.pid, process_name)
                seen.killed += 1
    if process.wait():
        sys.exit(process.returncode)
    seen.seconds = time.time() - began
    return seen


def memory_of(pid: int) -> tuple[float, float]:
    """MiB that the driver, and the driver with all below it, share with nobody."""
    driver = psutil.Process(pid)
    total = own = driver.memory_full_info().uss
    for child in driver.children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return own / MIB, total / MIB


def growth(memory: list[float]) -> float:
    """By what share the last third is above the first third: medians, since what was just restarted has yet to grow."""
    third = max(1, len(memory) // 3)
    return round(statistics.median(memory[-third:]) / statistics.median(memory[:third]) - 1.0, 3)


def second_half(run: RunRecord) -> list[float]:
    """The mean rewards of the steps of a run's second half."""
    rewards = [value for _, value in run.series(REWARD_MEAN)]
    return rewards[len(rewards) // 2 :]


if __name__ == "__main__":
    main()
