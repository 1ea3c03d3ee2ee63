"""`Quarantine`: the questions of a run that cannot be asked any more.

They were sound when they were loaded; since then an image was cut off or moved, or an engine refused the prompt. They
are left out from then on, also when the run is resumed, and listed in `data_faults.json` under `refused`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data.rollout import Refusal
from data.sample import DrivingSample
from data.split import Order
from failures import TooManyRefused

FAULTS_FILE = "data_faults.json"
REFUSED = "refused"
"""The fault under which they are listed."""


def list_faults(folder: Path, faults: Mapping[str, list[str]]) -> None:
    """Write the faults of a run's data into its folder, and keep which questions were refused before it was resumed."""
    path = folder / FAULTS_FILE
    refused = {reason: ids for reason, ids in _listed(path).items() if reason == REFUSED}
    _replace(path, {**faults, **refused})


class Quarantine:
    """Takes questions out of a run, as long as they are few."""

    def __init__(self, folder: Path, questions: int, share: float, warn: Callable[[str], None]) -> None:
        """Go on with what the run's folder lists.

        Args:
            folder: of the run, with its `data_faults.json`.
            questions: how many the run has.
            share: `data.max_refused_share`.
            warn: is handed a sentence for each question.
        """
        self._path, self._questions, self._share, self._warn = folder / FAULTS_FILE, questions, share, warn
        self.ids: dict[str, None] = dict.fromkeys(_listed(self._path).get(REFUSED, ()))

    def take(self, refusal: Refusal) -> None:
        """Leave a question out from now on; a second time does nothing.

        Raises:
            TooManyRefused: that is more than the share that is allowed.
        """
        if refusal.sample_id in self.ids:
            return
        self.ids[refusal.sample_id] = None
        _replace(self._path, _listed(self._path) | {REFUSED: list(self.ids)})
        self._warn(f"left out from now on: {refusal.why}")
        if len(self.ids) > self._share * self._questions:
            raise TooManyRefused(
                f"{len(self.ids)} of {self._questions} questions cannot be asked, more than data.max_refused_share="
                f"{self._share:g}; the latest: {refusal.why}; mend the files and resume the run ({self._path.name} "
                f"lists the ids under {REFUSED}: take out those that may be asked again)"
            )

    def without(self, samples: Iterable[DrivingSample]) -> list[DrivingSample]:
        """The samples that may be asked."""
        return [sample for sample in samples if sample.id not in self.ids]

    def draw(self, order: Order, count: int) -> list[DrivingSample]:
        """The next `count` samples of an order that may be asked."""
        drawn: list[DrivingSample] = []
        while len(drawn) < count:
            drawn += self.without(order.take(count - len(drawn)))
        return drawn


def _listed(path: Path) -> dict[str, list[str]]:
    listed: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
    return listed


def _replace(path: Path, listed: Mapping[str, list[str]]) -> None:
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(listed, indent=1))
    part.replace(path)
