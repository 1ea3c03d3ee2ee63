"""Updates whose gradients were not finite: skipped on every rank, their batches kept, too many in a row end the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from actors.errors import TooManySkipped
from policies.batch import TrainingGroup


class SkippedUpdates:
    """Counts updates that were skipped in a row, and keeps what they were to learn from."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Keep batches as JSON under `folder`, which is made when the first one comes."""
        self._folder, self._limit = folder, limit
        self._in_a_row = 0

    def record(self, sequence: int, applied: bool, groups: Sequence[TrainingGroup], loss: float) -> None:
        """Take note of an update.

        Raises:
            TooManySkipped: it is the last of as many in a row as the limit allows.
        """
        if applied:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"update_{sequence:06d}.json"
        path.write_text(json.dumps({"loss": loss, "groups": [asdict(group) for group in groups]}))
        print(
            f"update {sequence} skipped: its gradient is not finite (loss {loss:g}); batch kept in {path}", flush=True
        )
        if self._in_a_row >= self._limit:
            raise TooManySkipped(
                f"{self._in_a_row} updates in a row had gradients that are not finite; their batches are in "
                f"{self._folder}: look for values that are not numbers there, or lower learner.lr"
            )
