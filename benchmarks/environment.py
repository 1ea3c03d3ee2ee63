"""How fast the closed-loop world is, and how long the engines wait for it in a training step.

    python -m benchmarks.environment [--seconds 10] [--without-training] [part.key=value ...]

Prints, last, one JSON object: `frames_per_s` (cameras of 64 x 36 pixels, rendered by as many processes as there are
cores), `env_steps_per_s` (turns of half a second, physics and rendering), `expert_turns_per_s`, the same per second of
CPU time of one process (`..._per_cpu_s`), and of a few real steps of `recipes/tiny_closed_loop.yaml` the
`engine_wait_share`: of a training step, the time in which no engine had a request while episodes were driven.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from data.driving.actions import ACTIONS
from data.driving.cameras import look
from data.driving.environment import Driving, DrivingSettings
from data.driving.expert import expert_action
from data.driving.families import FAMILIES, build_scenario
from data.driving.world import World
from data.sample import CAMERAS
from recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
STEPS = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of the world alone")
    parser.add_argument("--without-training", action="store_true", help="leave out the training steps")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    found: dict[str, object] = {"cores": cores}
    with ProcessPoolExecutor(cores) as pool:
        for name, work in (("frames", frames), ("env_steps", env_steps), ("expert_turns", expert_turns)):
            done = list(pool.map(work, [options.seconds] * cores))
            found[f"{name}_per_s"] = round(sum(rate for rate, _ in done))
            found[f"{name}_per_cpu_s"] = round(sum(rate for _, rate in done) / cores)
            print(name, found[f"{name}_per_s"], flush=True)
    if not options.without_training:
        found |= engine_wait(options.overrides)
    print(json.dumps(found))


Rates = tuple[float, float]
"""Of one process: per second, and per second of its CPU time, which other work on the machine does not change."""


def frames(seconds: float) -> Rates:
    """Frames that one process renders, over scenarios of every family."""
    worlds = [World.begin(build_scenario(family, 0)) for family in FAMILIES]
    wall, cpu = _rates(seconds, lambda number: look(worlds[number % len(worlds)]))
    return len(CAMERAS) * wall, len(CAMERAS) * cpu


def env_steps(seconds: float) -> Rates:
    """Turns of one process, with the pictures of each."""
    environment, families = Driving(DrivingSettings()), list(FAMILIES)
    environment.reset(families[0], 0)

    def step(number: int) -> None:
        if environment.step(ACTIONS[0 if number % 3 else 6].text, 0.0).observation is None:
            environment.reset(families[number % len(families)], number)

    return _rates(seconds, step)


def expert_turns(seconds: float) -> Rates:
    """Decisions of one expert, its driving included."""
    families, world = list(FAMILIES), World.begin(build_scenario("bend", 0))

    def turn(number: int) -> None:
        nonlocal world
        world.act(expert_action(world))
        if world.over:
            world = World.begin(build_scenario(families[number % len(families)], number))

    return _rates(seconds, turn)


def _rates(seconds: float, work: Callable[[int], object]) -> Rates:
    began, spent, number = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        work(number)
        number += 1
    return number / (time.perf_counter() - began), number / (time.process_time() - spent)


def engine_wait(overrides: list[str]) -> dict[str, object]:
    """Of a few training steps, the share in which the engines waited for environments, and the turns a second."""
    with tempfile.TemporaryDirectory(prefix="environment-") as root:
        arguments = [
            str(ROOT / "recipes/tiny_closed_loop.yaml"),
            f"run.root={root}",
            "run.name=environment",
            f"run.steps={STEPS}",
            "data.options.scenarios=44",
            "warm_start.steps=60",
            "evaluation.control=false",
            "evaluation.before_and_after=false",
            *overrides,
        ]
        recipe = load_recipe(arguments)
        subprocess.run([sys.executable, str(ROOT / "train_grpo.py"), *arguments], cwd=ROOT, check=True)
        lines = (recipe.run.folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines][1:]  # the first one compiles and warms up
    shares = [step["episodes/engine_wait_s"] / step["step_s"] for step in steps]
    return {
        "engine_wait_share": round(statistics.fmean(shares), 3),
        "turns_per_s": round(statistics.fmean(step["episodes/turns"] / step["generate_s"] for step in steps)),
        "step_s": round(statistics.fmean(step["step_s"] for step in steps), 1),
    }


if __name__ == "__main__":
    main()
