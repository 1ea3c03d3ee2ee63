"""How soon a run is back at work after a kill, and whether anything was lost or learnt twice.

    python -m benchmarks.recovery

Trains the tiny recipe with two engines and two learner ranks, and kills (SIGKILL) an engine's actor, an engine's vLLM
process, a learner rank and at last the driver, which is then started again with `run.resume=true`. Then two runs of one
seed take one step of 1,024 responses, with one engine and with two, whose responses are compared token by token.
Prints, last, one JSON object. A fault's seconds are those from the kill to the end of the next step, less what a step
takes undisturbed. `supervision_share` is the processor time of the probes, in the driver and in two engines, over the
time between two rounds of them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from actors.checkpoint import LEARNER_FOLDER
from actors.inputs import read_inputs
from actors.learning.deepspeed_learner import CHECKPOINT_TAG
from actors.rollout.pool import EnginePool
from actors.supervision.hosting import anywhere
from actors.supervision.stacks import place_of
from cluster.session import session
from evaluation.run_record import MASKED_ROLLOUTS, ROLLOUTS, RunRecord, checkpoint_folder, read_run, samples_path
from policies.source import policy_source
from recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
FAULTS = {5: ("engine_actor", "ray::VllmEngine"), 10: ("engine_core", "EngineCore"), 15: ("learner_rank", "DeepSpeed")}
"""Step after which a process dies, with what it is called and the name by which it is found."""
DRIVER_AFTER, STEPS, WARM_STEPS = 20, 24, 20
ROUNDS = 500
"""Of probes."""
SETTINGS = (
    "run.name=recovery",
    f"run.steps={STEPS}",
    "run.checkpoint_every=4",
    f"warm_start.steps={WARM_STEPS}",
    "rollout.engines=2",
    "learner.ranks=2",
    "rollout.cpus=0.5",
    "learner.cpus=0.5",
    "rollout.prompts_per_step=8",
    "evaluation.before_and_after=false",
)
ONE_STEP = (
    "run.steps=1",
    "warm_start.steps=60",
    "rollout.prompts_per_step=128",
    "rollout.cpus=0.5",
    "learner.cpus=0.5",
    "evaluation.before_and_after=false",
)


def main() -> None:
    """Run, kill, and print the figures."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *SETTINGS, f"run.root={root}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        took, killed_at, between = dict[str, float](), dict[str, float](), list[float]()
        waiting, last = "", time.time()
        for step in steps_of(process):
            now = time.time()
            if waiting:
                took[waiting], waiting = now - killed_at[waiting], ""
            elif step > 1:
                between.append(now - last)
            last = now
            if step in FAULTS:
                waiting, name = FAULTS[step]
                killed_at[waiting] = kill(process.pid, name)
            elif step == DRIVER_AFTER:
                process.kill()
                killed_at["driver"] = time.time()
        if process.wait() and "driver" not in killed_at:
            sys.exit(process.returncode)
        again = subprocess.Popen([*command, "run.resume=true"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for step in steps_of(again):
            if step == DRIVER_AFTER + 1:
                took["driver"] = time.time() - killed_at["driver"]
        if again.wait():
            sys.exit(again.returncode)
        found = figures(Path(root) / "recovery", took, statistics.median(between))
        found |= same_seed(Path(root)) | {"supervision_share": asyncio.run(supervision_share(Path(root)))}
        print(json.dumps(found))


def steps_of(process: subprocess.Popen[str]) -> Iterator[int]:
    """The steps of a run as they end."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith("step "):
            yield int(line.split()[1].split("/")[0])


def kill(pid: int, name: str) -> float:
    """Kill the first process below one that has a name, outright; when, in seconds."""
    for process in psutil.Process(pid).children(recursive=True):
        if name in " ".join(process.cmdline()):
            process.kill()
            return time.time()
    raise SystemExit(f"no process of the run is called {name}")


def figures(folder: Path, took: dict[str, float], step_s: float) -> dict[str, object]:
    """What the run left behind says of losses and of updates."""
    run, recipe = read_run(folder), load_recipe([str(folder / "recipe.yaml")])
    wanted = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    lost = sum(wanted - int(step[ROLLOUTS]) + int(step[MASKED_ROLLOUTS]) for step in run.steps)
    recovery = {f"{name}_s": round(max(0.0, seconds - step_s), 1) for name, seconds in took.items()}
    return {
        **recovery,
        "worst_recovery_s": max(recovery.values()),
        "rollouts_lost": lost + wanted * (STEPS - len(run.steps)),
        "steps_applied_twice": applied(folder, STEPS) - WARM_STEPS - updates(run),
        "step_s": round(step_s, 2),
    }


def same_seed(root: Path) -> dict[str, object]:
    """How many responses of a run's first step are those of another run with the same seed, token by token."""
    responses = []
    for engines in (1, 2):
        name = f"run.name=engines-{engines}"
        given = (*ONE_STEP, name, f"run.root={root}", f"rollout.engines={engines}")
        subprocess.run([sys.executable, "train_grpo.py", "recipes/tiny.yaml", *given], cwd=ROOT, check=True)
        rows = pq.read_table(samples_path(root / f"engines-{engines}", 1), columns=["request_id", "token_ids"])
        responses.append({row["request_id"]: row["token_ids"] for row in rows.to_pylist()})
    one, two = responses
    if one.keys() != two.keys():
        raise SystemExit("the two runs did not ask for the same responses")
    equal = sum(two[name] == token_ids for name, token_ids in one.items())
    return {"same_seed_responses": len(one), "same_seed_equal_share": round(equal / len(one), 4)}


async def supervision_share(root: Path) -> float:
    """Processor seconds of one round of probes over the seconds between two rounds."""
    recipe = load_recipe(["recipes/tiny.yaml", f"run.root={root}", "rollout.engines=2"])
    folder = policy_source(recipe.policy, root, recipe.run.seed, read_inputs(recipe).data.corpus)
    with session(recipe, logs=root):
        pool = await EnginePool.launch(recipe, folder, anywhere(0.5, 0.0)).started()
        probe, members = pool.engines.care.probe, pool.engines.members
        assert probe is not None
        places = [await place_of(member.actor) for member in members]
        processes = [psutil.Process(), *(psutil.Process(place.pid) for place in places)]
        began, before = time.monotonic(), processor_s(processes)
        for _ in range(ROUNDS):
            await asyncio.gather(*(member.probe(probe) for member in members))
        probing, took = processor_s(processes) - before, time.monotonic() - began
        before = processor_s(processes)
        await asyncio.sleep(took)  # what they do anyway
        probing -= processor_s(processes) - before
        await pool.end()
    return round(probing / ROUNDS / probe.interval_s, 5)


def processor_s(processes: list[psutil.Process]) -> float:
    """Processor seconds that these processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def applied(folder: Path, step: int) -> int:
    """The updates that a step's weights have gone through: each carries two numbers, one to gather and one to step."""
    import torch

    state = checkpoint_folder(folder, step) / LEARNER_FOLDER / CHECKPOINT_TAG / "mp_rank_00_model_states.pt"
    return int(torch.load(state, weights_only=False)["applied"]) // 2  # written by this very run


def updates(run: RunRecord) -> int:
    """The updates that the steps of a run report."""
    return sum(int(step["updates"] + step["skipped"]) for step in run.steps)


if __name__ == "__main__":
    main()
