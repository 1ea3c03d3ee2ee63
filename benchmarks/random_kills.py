"""Kills processes of the demonstration's run at random, and says what came of it.

    python -m benchmarks.random_kills [--minutes 10] [--seed 0]

Any process that the run started may be hit, and the driver itself: engines, vLLM's processes, learners, Ray's own. The
same command is started again whenever it ends before its time, as a scheduler would do. After the last minute the run
is interrupted in good order. Prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.recovery import applied, updates
from commands.script import INTERRUPTED
from evaluation.run_record import MASKED_ROLLOUTS, ROLLOUTS, read_run
from recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
BETWEEN_S = (30.0, 90.0)
"""Shortest and longest time between two kills."""
LONGEST_S = 600.0
"""For the run to stop in good order."""
STOPS = 5
"""Tries to stop it so."""
GIVEN = ("run.name=hit", "run.steps=100000", "run.checkpoint_every=5", "run.resume=auto", "learner.restarts=1000",
         "rollout.restarts=1000", "rollout.dispatches=1000")  # fmt: skip


def main() -> None:
    """Run, kill, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        hit, ended = under_fire(root, 60.0 * options.minutes, random.Random(options.seed))
        print(json.dumps({"killed": dict(hit), "exit_codes": dict(ended), **figures(Path(root, "hit"))}))


def under_fire(root: str, seconds: float, draw: random.Random) -> tuple[Counter[str], Counter[int]]:
    """Train, killing at random and starting again; what was killed, and the exit codes."""
    hit, ended = Counter[str](), Counter[int]()
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *GIVEN, f"run.root={root}"]
    driver, until = subprocess.Popen(command, cwd=ROOT), time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(subprocess.TimeoutExpired):
            ended[driver.wait(draw.uniform(*BETWEEN_S))] += 1
            driver = subprocess.Popen(command, cwd=ROOT)
            continue
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        target = draw.choice(family)
        with suppress(psutil.NoSuchProcess):
            name = "driver" if target.pid == driver.pid else kind_of(target)
            target.kill()
            hit[name] += 1
            print(f"killed {name}", flush=True)
    for _ in range(STOPS):  # a run that something was killed of may end otherwise first
        driver.send_signal(signal.SIGINT)
        code = driver.wait(LONGEST_S)
        ended[code] += 1
        if code == INTERRUPTED:
            return hit, ended
        driver = subprocess.Popen(command, cwd=ROOT)
        time.sleep(BETWEEN_S[1])
    driver.kill()
    raise SystemExit(f"the run did not stop in good order in {STOPS} tries: {dict(ended)}")


def kind_of(process: psutil.Process) -> str:
    """What a process is, in a word or two."""
    words = process.cmdline() or [process.name()]
    named = [word for word in words if not word.startswith("-") and not Path(word).name.startswith("python")]
    return Path((named or words)[0]).name


def figures(folder: Path) -> dict[str, object]:
    """Whether any step, response or update is missing or there twice."""
    run, recipe = read_run(folder), load_recipe([str(folder / "recipe.yaml")])
    wanted = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    counted = Counter(int(step["step"]) for step in run.steps)
    last = max(counted, default=0)
    return {
        "steps": last,
        "steps_missing_or_twice": sum(counted[step] != 1 for step in range(1, last + 1)),
        "rollouts_lost": sum(wanted - int(step[ROLLOUTS]) + int(step[MASKED_ROLLOUTS]) for step in run.steps),
        "steps_applied_twice": applied(folder, last) - recipe.warm_start.steps - updates(run) if last else 0,
    }


if __name__ == "__main__":
    main()
