"""What a stream of samples holds, counted as it passes: tasks, kinds, scenes, and the lengths of its prompts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from data.sample import KINDS, DrivingSample, in_order


@dataclass(slots=True)
class Inventory:
    """Counts of a data file. Bounded by the number of its scenes, not of its samples."""

    samples: int = 0
    by_task_and_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_images: Counter[int] = field(default_factory=Counter)
    """Number of images to number of samples."""
    scenes: set[str] = field(default_factory=set)
    prompt_tokens: Counter[int] = field(default_factory=Counter)
    """Length of a prompt to number of prompts; empty when no model was named."""

    def table(self) -> list[tuple[str, ...]]:
        """A row for each task that occurs: its name, its samples of each kind in the order of `KINDS`, their sum."""
        rows = []
        for task in in_order(task for task, _ in self.by_task_and_kind):
            counts = [self.by_task_and_kind[task, kind] for kind in KINDS]
            rows.append((task, *map(str, counts), str(sum(counts))))
        return rows

    def quantile(self, share: float) -> int:
        """The shortest length that at least this share of the prompts do not exceed."""
        total, passed = self.prompt_tokens.total(), 0
        for length in sorted(self.prompt_tokens):
            passed += self.prompt_tokens[length]
            if passed >= share * total:
                return length
        return 0

    def as_dict(self) -> dict[str, Any]:
        """The counts for one JSON line."""
        tasks: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for (task, kind), count in self.by_task_and_kind.items():
            tasks[task] += count
            kinds[kind] += count
        found: dict[str, Any] = {
            "samples": self.samples,
            "scenes": len(self.scenes),
            "tasks": dict(tasks),
            "kinds": dict(kinds),
            "images_per_sample": {str(count): samples for count, samples in sorted(self.by_images.items())},
        }
        if self.prompt_tokens:
            found["prompt_tokens"] = {
                "shortest": min(self.prompt_tokens),
                "median": self.quantile(0.5),
                "p95": self.quantile(0.95),
                "longest": max(self.prompt_tokens),
            }
        return found


def inventory_of(
    samples: Iterable[DrivingSample], prompt_length: Callable[[DrivingSample], int] | None = None
) -> Inventory:
    """Count samples as they come.

    Args:
        samples: read once, kept nowhere.
        prompt_length: tokens of a sample's prompt with its images.

    Raises:
        DataError: as the stream does.
    """
    found = Inventory()
    for sample in samples:
        if prompt_length is not None:
            found.prompt_tokens[prompt_length(sample)] += 1
        found.samples += 1
        found.by_task_and_kind[sample.task, sample.kind] += 1
        found.by_images[len(sample.images)] += 1
        found.scenes.add(sample.scene_id)
    return found
