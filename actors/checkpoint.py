"""Checkpoints of a run: written beside, sealed with SHA-256 sums and a signature, renamed into place; checked on
reading, since DeepSpeed's files are pickled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from actors.learning.group import LearnerGroup
from evaluation.checkpoint_key import checkpoint_key, is_signed, key_path, signature
from evaluation.run_record import CHECKPOINTS_FOLDER, METRICS_FILE, checkpoint_folder, read_lines
from failures import CheckpointError, DiskFull, writing

MANIFEST = "manifest.json"
LEARNER_FOLDER, UNIVERSAL = "learner", "universal"


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


@dataclass(frozen=True, slots=True)
class Draft:
    """A checkpoint that the learners have written, and that nobody may load before it is sealed."""

    target: Path
    state: RunState
    model: str
    key: bytes

    @property
    def partial(self) -> Path:
        """Where it lies until then."""
        return self.target.with_name(self.target.name + ".part")

    def seal(self) -> Path:
        """Hash, sign and flush it, and give it its name; reads all of it, so not in an event loop.

        Raises:
            DiskFull: there is no room; the draft is removed.
        """
        with _removed_without_room(self.partial), writing(self.target):
            _seal(self.partial, asdict(self.state), self.model, self.key)
            self.partial.rename(self.target)
        return self.target


async def draft_checkpoint(run_folder: Path, state: RunState, learners: LearnerGroup) -> Draft:
    """Let the learners write `checkpoints/step_<n>`; they may go on before it is sealed.

    An interrupted write leaves older checkpoints as they were.

    Raises:
        DiskFull: there is no room; what was written of it is removed.
    """
    target = checkpoint_folder(run_folder, state.step)
    draft = Draft(target, state, await learners.model(), checkpoint_key(run_folder))
    for leftover in (draft.partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    with _removed_without_room(draft.partial), writing(target):
        (draft.partial / LEARNER_FOLDER).mkdir(parents=True)
        await learners.save(draft.partial / LEARNER_FOLDER)
    return draft


async def save_checkpoint(run_folder: Path, state: RunState, learners: LearnerGroup) -> Path:
    """Write and seal a checkpoint.

    Raises:
        DiskFull: there is no room; what was written of it is removed.
    """
    draft = await draft_checkpoint(run_folder, state, learners)
    return await asyncio.to_thread(draft.seal)


@contextlib.contextmanager
def _removed_without_room(folder: Path) -> Iterator[None]:
    try:
        yield
    except DiskFull:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sign_checkpoints(run_folder: Path) -> list[str]:
    """Sign every intact checkpoint below a run's folder with this user's key; a line for each says what was done."""
    key, lines = checkpoint_key(run_folder), []
    for manifest in sorted(run_folder.rglob(f"step_*[0-9]/{MANIFEST}")):
        folder = manifest.parent
        if (fault := _damage(folder)) is not None:
            lines.append(f"{folder} is damaged ({fault}): left as it is")
            continue
        content = _manifest(folder)
        shutil.rmtree(folder / UNIVERSAL, ignore_errors=True)  # made anew where it is wanted
        _write_manifest(folder, content, key)
        lines.append(f"{folder} is signed")
    return lines


def newest_checkpoint(run_folder: Path) -> int | None:
    """The step of a run's newest intact checkpoint; None when it has none yet.

    One that is damaged, or not signed by this user's key, is passed over, with a line that says so.

    Raises:
        CheckpointError: checkpoints exist but none can be used, or the key cannot be read.
    """
    faults: list[str] = []
    found = sorted((run_folder / CHECKPOINTS_FOLDER).glob("step_*[0-9]"), reverse=True)
    for folder in found:
        if (fault := _fault(folder, checkpoint_key(run_folder))) is not None:
            faults.append(fault)
            print(f"checkpoint {folder} cannot be used ({fault}); trying the one before it", flush=True)
            continue
        return _state(folder).step
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints in {run_folder / CHECKPOINTS_FOLDER} can be used; the newest: "
            f"{faults[0]}"
        )
    return None


def forget_checkpoints(run_folder: Path, *, keep: int, also: Collection[int] = ()) -> None:
    """Remove all checkpoints but those of the steps `also`, and the newest `keep`; 0 keeps all."""
    spared = {checkpoint_folder(run_folder, step) for step in also}
    for folder in sorted((run_folder / CHECKPOINTS_FOLDER).glob("step_*[0-9]"))[: -keep or 0]:
        if folder not in spared:
            shutil.rmtree(folder)


def best_checkpoints(run_folder: Path, metric: str) -> set[int]:
    """The steps whose checkpoints may turn out to be the best: of those that were measured the one with the highest
    value, and those after the newest measured one, since a benchmark takes its time."""
    lines, _ = read_lines(run_folder / METRICS_FILE)
    measured = {line["step"]: line[metric] for line in lines if isinstance(line.get(metric), (int, float))}
    there = {int(path.name.removeprefix("step_")) for path in (run_folder / CHECKPOINTS_FOLDER).glob("step_*[0-9]")}
    found = {step: value for step, value in measured.items() if step in there}
    best = {max(found, key=lambda step: (found[step], step))} if found else set[int]()
    return best | {step for step in there if step > max(measured, default=0)}


async def first_and_newest(run_folder: Path, learners: LearnerGroup) -> RunState | None:
    """Bring learners to a run's newest checkpoint; the reference of a KL is of the first where it is kept there.

    Returns:
        Where the run then stands; None where it has no checkpoint yet, and nothing was done.

    Raises:
        CheckpointError: as `newest_checkpoint` and `load_checkpoint`.
    """
    newest = await asyncio.to_thread(newest_checkpoint, run_folder)
    if newest is None:
        return None
    if learners.reference_in_first:
        await load_checkpoint(run_folder, 0, learners)
    await learners.all("freeze_reference")
    return await _load(checkpoint_folder(run_folder, newest), learners)


async def load_checkpoint(run_folder: Path, step: int, learners: LearnerGroup) -> RunState:
    """Load the checkpoint of a step into the learners, also when another number of ranks wrote it.

    Raises:
        CheckpointError: it is missing, damaged or not signed by this user's key, of another model, or cannot be
            brought to this number of ranks.
    """
    folder, key = checkpoint_folder(run_folder, step), checkpoint_key(run_folder)
    if (fault := await asyncio.to_thread(_fault, folder, key)) is not None:
        raise CheckpointError(f"checkpoint {folder} cannot be loaded: {fault}")
    return await _load(folder, learners)


async def _load(folder: Path, learners: LearnerGroup) -> RunState:
    """Load a checkpoint that was found sound."""
    if (holds := _manifest(folder)["model"]) != (asked := await learners.model()):
        raise CheckpointError(
            f"checkpoint {folder} holds {holds}, and the recipe makes {asked}: go on with the run's own `policy` "
            f"settings, or choose another run.name"
        )
    state, ranks = _state(folder), len(learners.ranks)
    await learners.load(folder / LEARNER_FOLDER, written_by=state.ranks)
    return replace(state, ranks=ranks)


def _manifest(folder: Path) -> dict[str, Any]:
    """What was sealed.

    Raises:
        ValueError: the file is cut short, or of another version of this project.
    """
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    if missing := {"state", "model", "sha256"} - set(found):
        raise ValueError(f"its {MANIFEST} has no {', '.join(sorted(missing))}")
    if strange := set(found["state"]) - {one.name for one in fields(RunState)}:
        raise ValueError(f"its {MANIFEST} says {', '.join(sorted(strange))}, which this version does not know")
    return found


def _state(folder: Path) -> RunState:
    return RunState(**_manifest(folder)["state"])


def _seal(folder: Path, state: dict[str, Any], model: str, key: bytes) -> None:
    """Write what a folder holds, signed, and bring all of it to the disk."""
    sums = {name: _sha256(folder / name) for name in _files(folder)}
    _write_manifest(folder, {"state": state, "model": model, "sha256": sums}, key)
    _sync_to_disk(folder)


def _write_manifest(folder: Path, content: dict[str, Any], key: bytes) -> None:
    draft = folder / f"{MANIFEST}.part"
    draft.write_text(json.dumps(content | {"signature": signature(key, content)}, indent=1))
    draft.replace(folder / MANIFEST)


def _files(folder: Path) -> list[str]:
    """What a seal covers: all of a folder but its manifest and its conversion, which has a seal of its own."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    apart = (UNIVERSAL, f"{UNIVERSAL}.part", MANIFEST, f"{MANIFEST}.part")
    return [name for name in names if Path(name).parts[0] not in apart]


def _fault(folder: Path, key: bytes) -> str | None:
    """Why a folder cannot be loaded."""
    if (damage := _damage(folder)) is not None:
        return damage
    if is_signed(key, _manifest(folder)):
        return None
    return (
        f"its {MANIFEST} is not signed by the key {key_path()}, and its pickled files could run code: where you trust "
        f"the run's folder, python -m commands.sign_checkpoints {folder.parents[1]}"
    )


def _damage(folder: Path) -> str | None:
    if not (folder / MANIFEST).is_file():
        return f"it has no {MANIFEST}"
    try:
        sums = _manifest(folder)["sha256"]
    except ValueError as error:
        return str(error)
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != expected:
            return f"{name} does not match its checksum"
    strange = [name for name in _files(folder) if name not in sums]
    return f"{strange[0]} is not in its {MANIFEST}" if strange else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_to_disk(folder: Path) -> None:
    """Flush every file, so that the rename cannot become durable before the content it names."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
