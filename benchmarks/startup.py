"""How long a run of the tiny recipe takes to start: from the process to engines and learners that are ready.

    python -m benchmarks.startup [--root FOLDER] [part.key=value ...]

Starts `train_grpo.py recipes/tiny.yaml`, interrupts it when the warm start begins, and prints, last, one JSON object of
seconds. A first run in a fresh folder draws scenes and builds the tiny policy too: with `--root` a second one finds
them.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("data", "ray", "policy", "start")
"""What a run says the end of, in its order; `start` ends when engines and learners are ready."""
INTERRUPTED = 130
END_S = 300.0


def main() -> None:
    """Start a run, interrupt it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="folder of the runs; left out: one that is removed afterwards")
    parser.add_argument("overrides", nargs="*", metavar="part.key=value")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as scratch:
        print(json.dumps(measured(Path(options.root or scratch).resolve(), options.overrides)))


def measured(root: Path, overrides: list[str]) -> dict[str, float]:
    """The seconds from the process's start to its first line and to all being ready, and those of each part."""
    given = [f"run.root={root}", f"run.name=startup-{datetime.now():%Y%m%d-%H%M%S}", *overrides]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *given], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    ends: dict[str, float] = {}
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        ends.setdefault("first_line", time.monotonic() - began)
        part = line.partition(":")[0]
        if part in PARTS:
            ends[part] = time.monotonic() - began
        if part == PARTS[-1]:
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=END_S)
    if process.returncode != INTERRUPTED:
        sys.exit(f"the run ended with exit code {process.returncode}, not by the interrupt")
    found, before = {"start_s": ends["start"]}, 0.0
    for part, end in ends.items():
        found["actors_s" if part == "start" else f"{part}_s"] = end - before
        before = end
    return {name: round(seconds, 1) for name, seconds in found.items()}


if __name__ == "__main__":
    main()
