"""Runs of jobs without Ray and without a model: each a process that writes metrics and adapters, step after step.

For measuring and testing the service around them. What a run is lies in files, so that a server which is killed finds
its runs again; with `dies` they end with the server that began them, as those of a Ray of its own do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serve.jobs.runs import Look
from serve.operations.parent import die_with_parent

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 32, "target_modules": ["q_proj"]}


@dataclass
class StubRuns:
    """`Runs` in processes of this machine."""

    folder: Path
    """Holds a file for each run that began, and one for each that ended."""
    seconds: float = 0.05
    """Of a step."""
    dies: bool = False

    async def submit(self, name: str, script: str, recipe: Path, about: dict[str, str]) -> None:
        """See `Runs`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._begun(name).exists():
            return
        command = [sys.executable, "-m", "benchmarks.stub_runs", str(self.folder), name, script, str(recipe),
                   str(self.seconds), str(int(self.dies))]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
        with suppress(FileExistsError), self._begun(name).open("x") as file:
            file.write(str(process.pid))

    async def look(self, name: str) -> Look:
        """See `Runs`."""
        if self._ended(name).is_file():
            code = int(self._ended(name).read_text())
            if code == 0:
                return Look("succeeded", 0)
            return Look("stopped", code) if code == 130 else Look("failed", code, "error: the stub was asked to fail")
        if not self._begun(name).is_file():
            return Look("gone")
        pid = self._begun(name).read_text()
        return Look("running") if pid and _lives(int(pid)) else Look("gone")

    async def stop(self, name: str) -> None:
        """See `Runs`."""
        if (await self.look(name)).state == "running":
            with suppress(ProcessLookupError):
                os.kill(int(self._begun(name).read_text()), signal.SIGTERM)

    def begun(self) -> list[str]:
        """The names of all runs that ever began."""
        return sorted(path.stem for path in self.folder.glob("*.begun"))

    def _begun(self, name: str) -> Path:
        return self.folder / f"{name}.begun"

    def _ended(self, name: str) -> Path:
        return self.folder / f"{name}.ended"


def _lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """Be a run."""
    folder, name, script, recipe, seconds, dies = arguments
    if dies == "1":
        die_with_parent(signal.SIGKILL)
    ended = Path(folder, f"{name}.ended")
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    tree: dict[str, Any] = yaml.load(Path(recipe).read_text(), yaml.CSafeLoader)
    run = Path(tree["run"]["root"], tree["run"]["name"])
    supervised = script == "train_sft.py"
    steps = tree["warm_start"]["steps"] if supervised else tree["run"]["steps"]
    log = run / ("warm_start.jsonl" if supervised else "metrics.jsonl")
    checkpoints = run / "supervised" / "checkpoints" if supervised else run / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    first = max([int(path.name.removeprefix("step_")) for path in checkpoints.glob("step_*[0-9]")], default=0) + 1
    for step in range(first, steps + 1):
        time.sleep(float(seconds))
        line = {"step": step, "time": time.time(), "loss": 1.0 / step, "reward/mean": 100.0 * step / steps}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if tree["run"]["seed"] == 666 and step == 2:
            ended.write_text("1")
            return 1
        if stopping or step % max(1, tree["run"]["checkpoint_every"]) == 0 or step == steps:
            _checkpoint(checkpoints, step)
        if stopping and step < steps:
            ended.write_text("130")
            return 130
    _adapter(run / "policy" / "adapter")
    ended.write_text("0")
    return 0


def _checkpoint(place: Path, step: int) -> None:
    part = place / f"step_{step:06d}.part"
    _adapter(part / "learner" / "adapter")
    (part / "manifest.json").write_text("{}")
    part.rename(place / f"step_{step:06d}")


def _adapter(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(1000))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
