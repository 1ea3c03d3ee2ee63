"""What a job's run leaves in its folder, as rows: metrics become events, adapters become models. Read again and again.

A line that was read is never read twice into the database, and an adapter is copied once: both have names of their own.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evaluation.run_record import (
    ADAPTER_FOLDER,
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    POLICY_FOLDER,
    REWARD_MEAN,
    SUPERVISED_FOLDER,
)
from serve.database.tables import Job, JobEvent, Weights
from serve.training.places import Places, partial, remove, seal

SUPERVISED_LOG = "warm_start.jsonl"
MANIFEST, LEARNER = "manifest.json", "learner"
TARGETS = ["attention", "mlp"]
"""What the service's adapters are of (`serve.assembly.check_service_recipe`)."""
SHOWN = ("reward/mean", "loss", "response/length_mean", "kl", "learning_rate", "lr", "full_valid_loss", "held_out_loss")
"""Metrics that an event's sentence tells, where they are there; its data has all."""


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter that a run wrote."""

    step: int
    folder: Path
    final: bool


def metrics_lines(run: Path, supervised: bool, read: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a run's metrics behind the first `read`, and how many there are now.

    A run that resumes from a checkpoint may cut its file; then it is read anew, and what is known is known.
    """
    path = run / (SUPERVISED_LOG if supervised else METRICS_FILE)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return [], read
    found = []
    for line in lines[read if read <= len(lines) else 0 :]:
        try:
            entry = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append(entry)
    return found, len(lines)


def add_event(
    session: Session,
    job_id: str,
    source: str,
    message: str,
    *,
    level: str = "info",
    kind: str = "message",
    data: dict[str, Any] | None = None,
    at: float | None = None,
) -> None:
    """Add an event, unless there is one of this source."""
    if session.scalar(select(JobEvent.number).where(JobEvent.job_id == job_id, JobEvent.source == source)) is None:
        session.add(JobEvent(job_id=job_id, source=source, level=level, kind=kind, message=message[:2000],
                             data=data or {}, created_at=at or time.time()))  # fmt: skip
        session.flush()


def add_metrics(session: Session, job: Job, lines: list[dict[str, Any]], steps: int) -> None:
    """One event for each step that was taken."""
    for line in lines:
        numbers = {name: value for name, value in line.items() if isinstance(value, int | float)}
        shown = ", ".join(f"{name} {numbers[name]:.4g}" for name in SHOWN if name in numbers)
        at = numbers.get("time")
        add_event(session, job.id, f"step {line['step']}", f"step {line['step']} of {steps}: {shown}" if shown else
                  f"step {line['step']} of {steps}", kind="metrics", data=numbers, at=at)  # fmt: skip


def adapters(run: Path, *, final: bool) -> Iterator[Found]:
    """The adapters of a run's whole checkpoints, oldest first; with `final` also that of its policy, as it ended."""
    steps = 0
    for place in (run / SUPERVISED_FOLDER / CHECKPOINTS_FOLDER, run / CHECKPOINTS_FOLDER):
        for folder in sorted(place.glob("step_*[0-9]")):
            step, adapter = int(folder.name.removeprefix("step_")), folder / LEARNER / ADAPTER_FOLDER
            steps = max(steps, step)
            if (folder / MANIFEST).is_file() and adapter.is_dir():
                yield Found(step, adapter, final=False)
    adapter = run / POLICY_FOLDER / ADAPTER_FOLDER
    if final and adapter.is_dir():
        yield Found(steps, adapter, final=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy of an adapter that nothing changes any more; no row names it yet."""

    found: Found
    folder: Path
    digests: dict[str, str]
    bytes: int
    rank: int


def copied(found: Found, places: Places) -> Kept:
    """Copy an adapter to a place of its own.

    Raises:
        OSError: the run removed the checkpoint meanwhile.
    """
    rank = int(json.loads((found.folder / "adapter_config.json").read_text())["r"])
    folder = places.new_weights()
    try:
        shutil.copytree(found.folder, partial(folder))
    except OSError:
        remove(folder)
        raise
    digests, size = seal(folder)
    return Kept(found, folder, digests, size, rank)


def path_of(job_id: str, found: Found) -> str:
    """What an adapter of a job is called among weights."""
    return f"tinker://{job_id}/sampler_weights/{'final' if found.final else f'step-{found.step:06d}'}"


def add_model(session: Session, job: Job, kept: Kept, name: str) -> bool:
    """Make an adapter a model of the tenant's; False: it is one already."""
    if session.scalar(select(Weights.number).where(Weights.path == path_of(job.id, kept.found))) is not None:
        return False
    add_weights(session, kept, job.tenant_id, job.id, name)
    return True


def add_weights(session: Session, kept: Kept, tenant_id: str, source: str, name: str) -> None:
    """The row of a model; `source` is the job or the run that it is of."""
    session.add(Weights(path=path_of(source, kept.found) if source.startswith("ftjob-") else f"tinker://run/{name}",
                        name=name, tenant_id=tenant_id, model_id=source, kind="sampler", named=True,
                        folder=str(kept.folder), digests=kept.digests, bytes=kept.bytes,
                        settings={"rank": kept.rank, "targets": TARGETS},
                        about={"step": kept.found.step, "final": kept.found.final}, created_at=time.time(),
                        expires_at=None))  # fmt: skip
    session.flush()


def metrics_of(event: JobEvent | None) -> dict[str, Any]:
    """A checkpoint's metrics, by OpenAI's names."""
    if event is None:
        return {}
    data = event.data
    found = {"step": data.get("step"), "train_loss": data.get("loss"), "train_reward_mean": data.get(REWARD_MEAN)}
    return {name: value for name, value in found.items() if value is not None}
