"""What the suites share: the faults of their files in numbers and words, the printed result, their images' folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from data.errors import one_line
from data.faults import Faults
from evaluation.metrics.predictions import says
from evaluation.metrics.result import SuiteResult
from evaluation.suites.suite import OptionError, Scored

NOTES_SHOWN = 20


def left_out(of_answers: Faults) -> set[str]:
    """The ids of the entries of an answer file that were left out."""
    return {id_ for ids in of_answers.dropped.values() for id_ in ids}


def merged(*listed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Faults of several files by their reason."""
    found: dict[str, list[str]] = {}
    for faults in listed:
        for reason, ids in faults.items():
            found.setdefault(reason, []).extend(ids)
    return found


def fault_counts(
    result: SuiteResult, of_answers: Faults | None = None, of_predictions: Mapping[str, list[str]] | None = None
) -> dict[str, int]:
    """Every fault of answers and predictions, counted by its reason."""
    loaded = of_answers or Faults()
    listed = merged(loaded.dropped, loaded.kept, of_predictions or {}, result.faults)
    return {reason: len(ids) for reason, ids in listed.items()}


def fault_notes(
    result: SuiteResult, of_answers: Faults | None = None, of_predictions: Mapping[str, list[str]] | None = None
) -> tuple[str, ...]:
    """A sentence for each fault."""
    loaded, listed = of_answers or Faults(), merged(of_predictions or {}, result.faults)
    said = (f"{id_} {says(reason)}" for reason, ids in listed.items() for id_ in ids)
    return (*loaded.notes, *dict.fromkeys(said))


def print_scored(scored: Scored) -> None:
    """Print the faults, the figures as a table and, last, one JSON object that counts faults by reason."""
    for note in scored.notes[:NOTES_SHOWN]:
        print(one_line(f"fault: {note}"))
    if len(scored.notes) > NOTES_SHOWN:
        print(f"and {len(scored.notes) - NOTES_SHOWN:,} more")
    for name, value in (("scored", f"{scored.result.scored:,}"), *scored.rows):
        print(f"{name:<40}{value:>12}")
    print(one_line(json.dumps(scored.reported | {"faults": scored.faults}, ensure_ascii=False, allow_nan=False)))


def needed_folder(option: str, path: Path | None) -> Path:
    """The folder of images that an option names, without which no image can be shown.

    Raises:
        OptionError: it is not given, or is no folder.
    """
    if path is None or not path.is_dir():
        given = "is not given" if path is None else f"{path} is not a folder"
        raise OptionError(option, f"{given}: to ask a model, name the folder that its images are looked for in")
    return path
