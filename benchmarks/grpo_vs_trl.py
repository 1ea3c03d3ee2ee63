"""Whole steps of GRPO beside TRL's own trainer: `python -m benchmarks.grpo_vs_trl [--size small|tiny|both]`.

Both train the same weights on the same drawn scenes (six images a prompt) with two threads, float32, AdamW, no KL, one
update a step, and a reward that costs nothing. `train_grpo.py` runs as it is: staleness 0, receipts and probes on. TRL
generates with transformers, since it has no other engine on a CPU. The two take turns, a process each time; a process's
first steps are not counted, figures are medians over the others.

- small: 25 million weights, 4 prompts x 8 responses of up to 48 tokens, images of 112 x 112.
- tiny: the demonstration's policy, 32 prompts x 8 responses of up to 3 tokens, images of 32 x 32.

Prints, last, one JSON object: `ratio_small` and `ratio_tiny` (TRL's seconds a step over ours), both sides' parts, and
what the first step's loss and gradient on the same tokens differ by.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.learner import build_model
from data.rendered.questions import driving_text
from evaluation.run_record import LENGTH_MEAN, read_run
from policies.settings import PolicySettings
from policies.source import policy_source

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
LR = 1e-5
SCENES = 60
PARTS = ("generate_s", "learn_s", "sync_s")
RUN_LIMIT_S = 1800.0
"""Longest time of one process."""


@dataclass(frozen=True)
class Size:
    """What both sides train on."""

    prompts: int
    group_size: int
    tokens: int
    """Most tokens of a response; an untrained policy hardly ever ends before."""
    pixels: int
    """Width and height of an image."""


SIZES = {"small": Size(4, 8, 48, 112), "tiny": Size(32, 8, 3, 32)}


def main() -> None:
    """Let both take turns, compare a step, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "both"], default="both")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a process")
    parser.add_argument("--untimed", type=int, default=3, help="steps before them")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-trl-") as folder:
        for name in SIZES if options.size == "both" else [options.size]:
            model = model_of(name, Path(folder))
            ours, theirs = list[dict[str, float]](), list[dict[str, float]]()
            for turn in range(options.rounds):
                ours += our_steps(name, model, Path(folder), turn, options.untimed + options.steps)[options.untimed :]
                theirs += trl(name, model, options.untimed + options.steps)["steps"][options.untimed :]
            figures |= {f"{part}_{name}": value for part, value in compared(ours, theirs).items()}
            figures |= {f"{part}_{name}": value for part, value in trl(name, model, 0)["same_tokens"].items()}
    print(json.dumps(figures | {"timed_steps": options.rounds * options.steps, "threads": THREADS}))


def model_of(name: str, folder: Path) -> Path:
    """The folder of the weights that both begin with."""
    if name == "small":
        return build_model(folder / "small")
    return Path(policy_source(PolicySettings(image_size=(32, 32)), folder, 0, list(driving_text())))


def compared(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """The figures of one size."""
    seconds = {side: _medians(steps) for side, steps in (("ours", ours), ("trl", theirs))}
    return {"ratio": round(seconds["trl"]["step_s"] / seconds["ours"]["step_s"], 2), **seconds}


def _medians(steps: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(statistics.median(step[part] for step in steps), 3) for part in steps[0]}


def our_steps(name: str, model: Path, folder: Path, turn: int, steps: int) -> list[dict[str, float]]:
    """Seconds of each step of `train_grpo.py`, with its parts."""
    size, run = SIZES[name], f"{name}-{turn}"
    given = {
        "run.root": folder, "run.name": run, "run.steps": steps, "run.checkpoint_minutes": 0,
        "data.options.scenes": SCENES, "policy.model": model, "policy.image_size": f"[{size.pixels}, {size.pixels}]",
        "algorithm.options.kl_beta": 0.0, "algorithm.options.importance": "none", "warm_start.steps": 0,
        "rollout.prompts_per_step": size.prompts, "rollout.group_size": size.group_size,
        "rollout.max_tokens": size.tokens, "rollout.temperature": 1.0, "rollout.threads": THREADS,
        "learner.threads": THREADS, "learner.lr": LR, "evaluation.before_and_after": "false",
        "reward.routes": '[{kind: any, scorers: {"benchmarks.free_reward:points": 1}}]',
        "reward.gate.overlong": "false",
        "reward.gate.max_repeated_share": 1, "reward.gate.max_repeated_sentence": size.tokens,
    }  # fmt: skip
    settings = [f"{key}={value}" for key, value in given.items()]
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *settings]
    subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=True, timeout=RUN_LIMIT_S)
    found = read_run(folder / run).steps
    return [
        {"step_s": one["step_s"], **{part: one[part] for part in PARTS}, "tokens": one[LENGTH_MEAN]} for one in found
    ]


def trl(name: str, model: Path, steps: int) -> dict[str, Any]:
    """What `benchmarks.trl_side` prints; without steps it compares one with ours."""
    command = [sys.executable, "-m", "benchmarks.trl_side", name, str(model), str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_LIMIT_S
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
