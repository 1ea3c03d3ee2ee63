"""What was predicted of a run's steps before it began (`plan.json`), beside what was measured. Reads one file."""

from __future__ import annotations

import json
from statistics import median

from evaluation.numbers import short
from evaluation.run_record import RunRecord
from evaluation.time_parts import STAGES

PLAN_FILE = "plan.json"
"""In the run folder: seconds of a step by the names of the journal's metrics."""


def predicted_and_measured(run: RunRecord) -> list[tuple[str, str]]:
    """For each stage that was predicted, both figures in words; nothing where nothing was predicted.

    Raises:
        ValueError: the file is no JSON.
    """
    path = run.folder / PLAN_FILE
    if not path.is_file():
        return []
    predicted: dict[str, float] = json.loads(path.read_text())
    rows = []
    for metric, (name, _) in STAGES.items():
        measured = [value for _, value in run.series(metric)]
        if metric in predicted and measured:
            both = f"{short(predicted[metric])} s predicted, {short(median(measured))} s measured"
            rows.append((f"Time of {name}", both))
    return rows
