"""`Learnt`: what an update saw of each response, kept for the run's ledger until it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from policies.batch import TrainingGroup
from policies.losses import PolicyLossInput

_NUMBERS = pa.list_(pa.float32())
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("old_logprobs", _NUMBERS),  # the learner's, when the batch was first trained on
        ("reference_logprobs", _NUMBERS),  # null where the loss reads none
        ("values", _NUMBERS),  # the critic's, before the first update; null without one
        ("advantages", _NUMBERS),
    ]
)
"""Columns of `learnt/step_*.rank_*.parquet`, one row per response; lists have a number for each token."""


class Learnt:
    """Collects rows; those of responses without an id, such as demonstrations, are none of its business."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._rows: dict[str, dict[str, Any]] = {}

    def add(self, groups: Sequence[TrainingGroup], seen: PolicyLossInput) -> None:
        """Keep what a loss saw of a micro-batch. The first row of a response stays."""
        responses = [response for group in groups for response in group.responses]
        if not any(response.id for response in responses):
            return
        columns = {
            "old_logprobs": seen.old_logprobs_R_T,
            "reference_logprobs": seen.reference_logprobs_R_T,
            "values": seen.old_values_R_T,
            "advantages": seen.advantages_R_T.expand(seen.mask_R_T.shape),
        }
        kept = {name: None if column is None else _rows(column) for name, column in columns.items()}
        for place, response in enumerate(responses):
            row = {
                name: None if rows is None else rows[place][: len(response.token_ids)] for name, rows in kept.items()
            }
            self._rows.setdefault(response.id, {"request_id": response.id, **row})

    def write(self, path: Path) -> None:
        """Write all rows to a file, whole or not at all, and forget them; no file where there are none."""
        rows, self._rows = list(self._rows.values()), {}
        if not rows:
            return
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".parquet.part")
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), part)
        part.replace(path)


def _rows(column_R_T: Tensor) -> list[list[float]]:
    rows: list[list[float]] = column_R_T.detach().float().cpu().tolist()
    return rows
