"""The runs of a folder, and what a line about each says. Reads run folders only; no torch, no ray."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.comparison.before_after import AFTER, BEFORE
from evaluation.pages.page import REPORT_FILE
from evaluation.run_record import POLICY_FOLDER, RECIPE_FILE, read_run

TAGS_FILE = "tags.json"
"""Words that were given to a run after it began; those of its recipe are the first."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """What is worth a line about a run."""

    name: str
    folder: Path
    state: str
    """`finished`, `running`, or `stopped`."""
    step: int
    planned: int
    before: float | None
    """Held-out reward, 0-100."""
    after: float | None
    tasks: dict[str, float | None]
    """The same of each task, after training."""
    started: str
    """UTC, ISO 8601; empty where it is not known."""
    bytes: int
    tags: tuple[str, ...]
    unread: tuple[str, ...]
    """What could not be read, in sentences."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "folder": str(self.folder), "tags": list(self.tags), "unread": list(self.unread)}


def runs_in(root: Path) -> list[Path]:
    """The run folders directly below a folder, by name; none where it is not there."""
    return sorted(path.parent for path in root.glob(f"*/{RECIPE_FILE}"))


def line_of(folder: Path, *, in_use: bool) -> RunLine:
    """What is known of a run, damaged files left out."""
    run = read_run(folder, whatever_is_there=True)
    planned = int(run.recipe.get("run", {}).get("steps", 0))
    step = int(run.steps[-1]["step"]) if run.steps else 0
    whole = step >= planned and (folder / POLICY_FOLDER).is_dir() and (folder / REPORT_FILE).is_file()
    before, after = run.evaluations.get(BEFORE), run.evaluations.get(AFTER)
    return RunLine(
        name=folder.name,
        folder=folder,
        state="running" if in_use else "finished" if whole else "stopped",
        step=step,
        planned=planned,
        before=before.reward if before else None,
        after=after.reward if after else None,
        tasks={task: of_task.reward for task, of_task in after.tasks.items()} if after else {},
        started=str(run.provenance.get("started_at", "")),
        bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        tags=tuple(read_tags(folder, run.recipe)),
        unread=run.unread,
    )


def read_tags(folder: Path, recipe: Mapping[str, Any]) -> list[str]:
    """The words that a run was given: those that were written last, else its recipe's."""
    path = folder / TAGS_FILE
    if path.is_file():
        return [str(tag) for tag in json.loads(path.read_text())]
    return [str(tag) for tag in recipe.get("run", {}).get("tags", ())]


def write_tags(folder: Path, tags: Sequence[str]) -> None:
    """Keep the words of a run."""
    part = folder / f"{TAGS_FILE}.part"
    part.write_text(json.dumps(list(tags)))
    part.replace(folder / TAGS_FILE)


def differing(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The settings that are not the same in all runs, by dotted key, one value a run; names and places left out."""
    flat = [dict(_flat(read_run(folder, whatever_is_there=True).recipe)) for folder in folders]
    keys = dict.fromkeys(key for one in flat for key in one if key not in ("run.name", "run.root", "run.resume"))
    rows = {key: [str(one.get(key, "–")) for one in flat] for key in keys}
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
