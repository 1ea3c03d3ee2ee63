"""The demonstration: a tiny driving model learns by RL on this machine. What `make demo` runs.

    python -m benchmarks.demo [--seed 1] [part.key=value ...]

Runs `recipes/tiny.yaml` with the control (as much more warm start instead of RL) and prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil

from evaluation.held_out import EvaluationResult
from recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
SETUP_SECONDS = ROOT / ".venv" / "setup_seconds"
SAMPLE_EVERY_S = 2.0


def main() -> None:
    """Run the demonstration and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes, the policy and the sampling")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_args()
    arguments = [
        str(ROOT / "recipes/tiny.yaml"),
        f"run.name=demo-{datetime.now():%Y%m%d-%H%M%S}",
        f"run.seed={options.seed}",
        f"data.seed={options.seed}",
        "evaluation.control=true",
        *options.overrides,
    ]
    recipe = load_recipe(arguments)
    began = time.time()
    process = subprocess.Popen([sys.executable, str(ROOT / "train_grpo.py"), *arguments], cwd=ROOT)
    memory = PeakMemory(process.pid)
    code = process.wait()
    seconds = time.time() - began
    peak = memory.stop()
    if code:
        sys.exit(code)
    folder = (ROOT / recipe.run.root / recipe.run.name).resolve()
    print(json.dumps(figures(folder, seconds, peak)))


def figures(folder: Path, seconds: float, peak_gib: float) -> dict[str, object]:
    """The figures of a finished run folder.

    Args:
        folder: the run folder.
        seconds: whole-process time, control included.
        peak_gib: largest memory of all processes together.
    """
    before, after, swapped, control = (
        EvaluationResult.from_json((folder / "evaluation" / f"{name}.json").read_text())
        for name in ("before", "after", "swapped", "continued_warm_start")
    )
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    phases = json.loads((folder / "phases.json").read_text())
    behavior = after.tasks["behavior"]
    return {
        "setup_s": float(SETUP_SECONDS.read_text()) if SETUP_SECONDS.is_file() else None,
        "run_s": round(seconds - phases["control"], 1),
        "reward_before": before.reward,
        "reward_after": after.reward,
        "behavior_accuracy_before": before.behavior_accuracy,
        "behavior_accuracy_after": after.behavior_accuracy,
        "behavior_accuracy_swapped": swapped.behavior_accuracy,
        "behavior_accuracy_majority": behavior.majority_accuracy,
        "valid_format_before": min(task.valid_format for task in before.tasks.values()),
        "continued_warm_start_reward": control.reward,
        "continued_warm_start_behavior_accuracy": control.behavior_accuracy,
        "control_s": round(phases["control"], 1),
        "max_logprob_gap": max(step["sync_gap"] for step in steps),
        "peak_memory_gib": round(peak_gib, 2),
        "steps": len(steps),
        "held_out_questions": after.samples,
        "report": str(folder / "report.html"),
    }


class PeakMemory:
    """Watches a process and everything it started; memory that processes share is counted once (PSS)."""

    def __init__(self, pid: int) -> None:
        """Begin to watch."""
        self._root = psutil.Process(pid)
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop watching; the peak in GiB."""
        self._done.set()
        self._thread.join()
        return self._peak / 2**30

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self._peak = max(self._peak, self._now())

    def _now(self) -> int:
        total = 0
        try:
            for process in [self._root, *self._root.children(recursive=True)]:
                total += _pss(process)
        except psutil.NoSuchProcess:  # the run has ended
            return 0
        return total


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # ended since it was listed
        return 0


if __name__ == "__main__":
    main()
