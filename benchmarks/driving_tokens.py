"""What driving tokens lose, and what they cost: bins, codebook, weight sync with their rows, constrained sampling.

    python -m benchmarks.driving_tokens [--only errors] [--drives 60]

Prints, last, one JSON object:

- `trajectory_error_m`: mean distance between the waypoints of the embedded world's expert and what comes back of their
  tokens, 512 bins an axis, fitted on other drives (`..._quantile`: with quantiles for edges);
- `codebook_error_m`: mean distance after half a second between the expert's motions and their codes, 2,048 of them,
  fitted on other drives; with what they cover;
- `max_logprob_gap`: the largest difference between engine and learner in log-probabilities of action tokens (float32),
  before and after a sync, over two runs of `recipes/tiny_vla_rl.yaml`: all weights, and adapters with the new rows;
- `constrained_over_free`: tokens a second of an engine that samples waypoints as they are due, over those of one that
  samples anything; the median of alternating rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from actors.rollout.vllm_engine import VllmEngine, vllm_settings
from commands.driving_tokens import expert_segments
from data.driving.expert import expert_action
from data.driving.families import FAMILIES, build_scenario
from data.driving.world import STEPS, World
from data.episode import MEASURING, SHOWN
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from data.sample import DrivingSample, Trajectory
from data.tokens.bins import BINS, Bins
from data.tokens.codebook import CODES, Codebook
from data.tokens.segments import segment_between
from data.trajectory import FUTURE_STEPS
from policies.source import policy_source
from recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("errors", "gap", "speed")
REQUESTS, ROUNDS = 64, 5
GAP_RUNS = {"full": (), "lora": ("policy.lora={rank: 8}", "learner.lr=0.002")}
SHORT = (
    "run.steps=2",
    "data.options.scenarios=22",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "warm_start.steps=20",
    "warm_start.evaluate_every=0",
    "environment.max_turns=10",
    "evaluation.before_and_after=false",
    "evaluation.control=false",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this alone; may be given again")
    parser.add_argument("--drives", type=int, default=60, help="scenarios of each family that are fitted on")
    options = parser.parse_args()
    parts: list[str] = options.only or list(PARTS)
    found: dict[str, Any] = {}
    if "errors" in parts:
        found |= errors(options.drives)
    with tempfile.TemporaryDirectory() as scratch:
        if "gap" in parts:
            gaps = {name: gap(Path(scratch), name, overrides) for name, overrides in GAP_RUNS.items()}
            found |= {f"logprob_gap_{name}": value for name, value in gaps.items()}
            found["max_logprob_gap"] = max(gaps.values())
        if "speed" in parts:
            found |= speeds(Path(scratch))
    print(json.dumps({name: float(f"{value:.4g}") for name, value in found.items()}))


def errors(drives: int) -> dict[str, float]:
    """What is lost on the expert's drives in scenarios that nothing was fitted on."""
    fitted, others = trajectories(drives, SHOWN), trajectories(max(2, drives // 6), MEASURING)
    uniform, _ = Bins.fit(fitted, BINS, "uniform")
    quantile, _ = Bins.fit(fitted, BINS, "quantile")
    book, _ = Codebook.fit(expert_segments(drives), CODES)
    lost = book.errors(expert_segments(max(2, drives // 6), MEASURING))
    return {
        "trajectories": len(others),
        "trajectory_error_m": uniform.error_m(others),
        "trajectory_error_m_quantile": quantile.error_m(others),
        "codebook_error_m": lost.position_m,
        "codebook_worst_m": lost.worst_m,
        "codebook_turned_deg": lost.turned_deg,
        "codebook_covered": lost.covered,
    }


def trajectories(drives: int, first: int) -> list[Trajectory]:
    """Three seconds from every turn of the expert's drives, in the LiDAR frame's axes: x to the right, y ahead."""
    found = []
    for family in FAMILIES:
        for seed in range(first, first + drives):
            world = World.begin(build_scenario(family, seed))
            while not world.over:
                world.act(expert_action(world))
            poses = [row[:3] for row in world.trace[::STEPS]]
            for now in range(len(poses) - FUTURE_STEPS):
                seen = (segment_between(poses[now], poses[now + step]) for step in range(1, FUTURE_STEPS + 1))
                found.append(Trajectory((), tuple((-one.left, one.ahead, one.turned) for one in seen), "forward"))
    return found


def gap(root: Path, name: str, overrides: tuple[str, ...]) -> float:
    """The largest difference between engine and learner in a short run: of its probes, and of what it sampled."""
    arguments = ["train_grpo.py", "recipes/tiny_vla_rl.yaml", f"run.root={root}", f"run.name={name}"]
    subprocess.run([sys.executable, *arguments, *SHORT, *overrides], cwd=ROOT, check=True, stdout=sys.stderr)
    lines = (root / name / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    return max(max(step["rollout_gap_max"], step["probe_gap"]) for step in steps)


def speeds(root: Path) -> dict[str, float]:
    """Tokens a second with and without the rule of what is due."""
    futures = [tuple((0.1 * k * n, 0.5 * v * n, 0.0) for n in range(1, 7)) for k in range(-9, 10) for v in range(20)]
    Bins.fit([Trajectory((), future, "forward") for future in futures])[0].write(root / "bins.json", {})
    recipe = load_recipe(
        [
            str(ROOT / "recipes/tiny_vla_rl.yaml"),
            f"run.root={root}",
            f"policy.heads={{trajectory: {root / 'bins.json'}}}",
            "rollout.max_tokens=12",
        ]
    )
    options = vllm_settings(recipe)
    os.environ.update(VllmEngine.environment(recipe, options))
    source = policy_source(recipe.policy, root, 0, ("Speed 7, limit 9. Where will it be?",))
    rates = asyncio.run(measured(recipe, source, options))
    by_kind = {kind: statistics.median(values) for kind, values in rates.items()}
    return {
        "constrained_tokens_per_s": by_kind["tokens"],
        "free_tokens_per_s": by_kind["free"],
        "constrained_over_free": by_kind["tokens"] / by_kind["free"],
    }


async def measured(recipe: Recipe, source: str, options: Any) -> dict[str, list[float]]:
    """Tokens a second of each round, by what is asked of the engine."""
    engine = VllmEngine("engine", source, recipe, options, 0)
    await engine.start()
    found: dict[str, list[float]] = {"free": [], "tokens": []}
    assert recipe.policy.heads is not None
    for number in range(ROUNDS + 1):
        for kind in found:
            heads = recipe.policy.heads.model_copy(update={"answer": kind})
            engine.policy = recipe.policy.model_copy(update={"heads": heads})
            began, tokens = time.perf_counter(), 0
            async for rollout in engine.generate(requests(f"{kind}-{number}")):
                assert isinstance(rollout, Rollout)
                tokens += len(rollout.token_ids)
            if number:  # the first one warms up
                found[kind].append(tokens / (time.perf_counter() - began))
    await engine.stop()
    return found


def requests(name: str) -> list[GenerationRequest]:
    """Questions without images, each sampled for itself."""
    asked = DrivingSample("a", "a", "a", "planning", "coordinates", "Speed 7, limit 9. Where will it be?", "", {})
    sampling = SamplingSettings(1.0, 12)
    return [GenerationRequest(f"{name}-{number}", asked, sampling) for number in range(REQUESTS)]


if __name__ == "__main__":
    main()
