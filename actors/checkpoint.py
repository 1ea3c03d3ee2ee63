"""Checkpoints of a run: written beside, sealed with SHA-256 sums, renamed into place; checked on reading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from actors.learner_group import LearnerGroup

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
LEARNER_FOLDER = "learner"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands: what a resumed run needs besides the learners."""

    step: int
    """Finished training steps; the weights are version `step`."""
    position: int
    """Draws of the training order."""
    ranks: int
    """Learner ranks that wrote the checkpoint."""
    kl_beta: float | None = None
    """The weight of a KL in the reward, which may have adapted; None: the recipe's."""


class CheckpointError(RuntimeError):
    """No checkpoint could be used; the message names the folder and why."""


async def save_checkpoint(run_folder: Path, state: RunState, learners: LearnerGroup) -> Path:
    """Write `checkpoints/step_<n>`; an interrupted write leaves older checkpoints as they were."""
    target = _folder(run_folder, state.step)
    partial = target.with_name(target.name + ".part")
    for leftover in (partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    (partial / LEARNER_FOLDER).mkdir(parents=True)
    await learners.save(partial / LEARNER_FOLDER)
    sums = {str(path.relative_to(partial)): _sha256(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    manifest = partial / MANIFEST
    manifest.write_text(json.dumps({"state": asdict(state), "sha256": sums}, indent=1))
    _sync_to_disk(partial)
    partial.rename(target)
    return target


def newest_checkpoint(run_folder: Path, ranks: int) -> int | None:
    """The step of a run's newest intact checkpoint; None when it has none yet.

    A damaged checkpoint is passed over, with a line that says so.

    Raises:
        CheckpointError: checkpoints exist but none is intact, or it was written by another number of ranks.
    """
    found = sorted((run_folder / FOLDER).glob("step_*[0-9]"), reverse=True)
    for folder in found:
        if (fault := _fault(folder)) is not None:
            print(f"checkpoint {folder} is damaged ({fault}); trying the one before it", flush=True)
            continue
        state = _state(folder)
        if state.ranks != ranks:
            raise CheckpointError(
                f"checkpoint {folder} was written by {state.ranks} learner rank(s) and cannot be read by "
                f"learner.ranks={ranks}: resume with learner.ranks={state.ranks}"
            )
        return state.step
    if found:
        raise CheckpointError(f"none of the {len(found)} checkpoints in {run_folder / FOLDER} is intact")
    return None


async def load_checkpoint(run_folder: Path, step: int, learners: LearnerGroup) -> RunState:
    """Load the checkpoint of a step into the learners.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    folder = _folder(run_folder, step)
    if (fault := _fault(folder)) is not None:
        raise CheckpointError(f"checkpoint {folder} cannot be loaded: {fault}")
    await learners.load(folder / LEARNER_FOLDER)
    return _state(folder)


def _folder(run_folder: Path, step: int) -> Path:
    return run_folder / FOLDER / f"step_{step:06d}"


def _state(folder: Path) -> RunState:
    return RunState(**json.loads((folder / MANIFEST).read_text())["state"])


def _fault(folder: Path) -> str | None:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return f"it has no {MANIFEST}"
    for name, expected in json.loads(manifest.read_text())["sha256"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != expected:
            return f"{name} does not match its checksum"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_to_disk(folder: Path) -> None:
    """Flush every file, so that the rename cannot become durable before the content it names."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
