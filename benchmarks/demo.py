"""The demonstration: a tiny driving model learns by RL on this machine. What `make demo` runs.

    python -m benchmarks.demo [--seed 1] [--control] [part.key=value ...]

Runs `recipes/tiny.yaml` and prints, last, one JSON object. With `--control` it also continues the warm start from where
RL began, for as long as RL took, and measures that.
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
    parser.add_argument("--control", action="store_true", help="measure as much more warm start instead of RL too")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_args()
    arguments = [
        str(ROOT / "recipes/tiny.yaml"),
        f"run.name=demo-{datetime.now():%Y%m%d-%H%M%S}",
        f"run.seed={options.seed}",
        f"data.seed={options.seed}",
        f"evaluation.control={str(options.control).lower()}",
        *options.overrides,
    ]
    recipe = load_recipe(arguments)
    began = time.time()
    process = subprocess.Popen([sys.executable, str(ROOT / "train_grpo.py"), *arguments], cwd=ROOT)
    memory = PeakMemory(process.pid)
    code = ended(process)
    seconds = time.time() - began
    peak = memory.stop()
    if code:
        sys.exit(code)
    folder = (ROOT / recipe.run.root / recipe.run.name).resolve()
    print(json.dumps(figures(folder, seconds, peak)))


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that hears Ctrl-C itself, and needs a while to end in good order."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def figures(folder: Path, seconds: float, peak_gib: float) -> dict[str, object]:
    """The figures of a finished run folder.

    Args:
        folder: the run folder.
        seconds: whole-process time, a control included.
        peak_gib: largest memory of all processes together.
    """
    before, after, swapped = (_measured(folder, name) for name in ("before", "after", "swapped"))
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    phases = json.loads((folder / "phases.json").read_text())
    found: dict[str, object] = {
        "setup_s": float(SETUP_SECONDS.read_text()) if SETUP_SECONDS.is_file() else None,
        "run_s": round(seconds - phases.get("control", 0.0), 1),
        "reward_before": _rounded(before.reward, 1),
        "reward_after": _rounded(after.reward, 1),
        "behavior_accuracy_before": _rounded(before.behavior_accuracy, 2),
        "behavior_accuracy_after": _rounded(after.behavior_accuracy, 2),
        "behavior_accuracy_swapped": _rounded(swapped.behavior_accuracy, 2),
        "behavior_accuracy_majority": _rounded(after.tasks["behavior"].majority_accuracy, 2),
        "valid_format_before": round(min(task.valid_format for task in before.tasks.values()), 2),
        "probe_gap_max": float(f"{max(step['probe_gap'] for step in steps if 'probe_gap' in step):.2g}"),
        "peak_memory_gib": round(peak_gib, 2),
        "steps": len(steps),
        "held_out_questions": after.samples,
    }
    if "control" in phases:
        control = _measured(folder, "continued_warm_start")
        found["continued_warm_start_reward"] = _rounded(control.reward, 1)
        found["continued_warm_start_behavior_accuracy"] = _rounded(control.behavior_accuracy, 2)
        found["control_s"] = round(phases["control"], 1)
    return found | {"report": str(folder / "report.html")}


def _rounded(value: float | None, digits: int) -> float | None:
    """A figure as people read it; None where nothing could be measured."""
    return None if value is None else round(value, digits)


def _measured(folder: Path, name: str) -> EvaluationResult:
    return EvaluationResult.from_json((folder / "evaluation" / f"{name}.json").read_text())


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
