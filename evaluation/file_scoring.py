"""What the suites that score files share: their arguments, the faults of both files, the printed result. No torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.faults import Faults
from evaluation.predictions import Predictions, read_predictions, says
from evaluation.suite_result import SuiteResult

NOTES_SHOWN = 20

Row = tuple[str, str]
"""A figure's name and its value as it is printed."""


def add_strict(parser: argparse.ArgumentParser) -> None:
    """`--strict`."""
    parser.add_argument("--strict", action="store_true", help="a fault in any file ends the scoring")


def add_predictions(parser: argparse.ArgumentParser, id_key: str = "id", what: str = "the question's id") -> None:
    """`--predictions` with the members of its records, and `--strict`."""
    form = f'JSON or JSONL: [{{"{id_key}": {what}, "answer": text}}, ...]'
    parser.add_argument("--predictions", type=Path, required=True, help=form)
    parser.add_argument("--id-key", default=id_key, help=f"the member that holds the id (default: {id_key})")
    parser.add_argument("--answer-key", default="answer", help="the member that holds the output (default: answer)")
    add_strict(parser)


def predictions_of(options: argparse.Namespace) -> Predictions:
    """The predictions file of the command line.

    Raises:
        DataError: as `read_predictions`.
    """
    return read_predictions(
        options.predictions, id_key=options.id_key, answer_key=options.answer_key, strict=options.strict
    )


def merged(*listed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Faults of several files by their reason."""
    found: dict[str, list[str]] = {}
    for faults in listed:
        for reason, ids in faults.items():
            found.setdefault(reason, []).extend(ids)
    return found


def print_result(
    result: SuiteResult,
    rows: Iterable[Row],
    of_predictions: Mapping[str, list[str]] | None = None,
    of_answers: Faults | None = None,
    **changed: Any,
) -> None:
    """Print the faults, the figures as a table and, last, one JSON object, in which a fault is counted by its reason.

    Args:
        result: the suite's result.
        rows: what the table shows.
        of_predictions: what was wrong with the predictions file.
        of_answers: what was wrong with the answer files.
        changed: members of the JSON object that replace or join those of the result.
    """
    loaded = of_answers or Faults()
    listed = merged(of_predictions or {}, result.faults)
    notes = [*loaded.notes, *(f"{id_} {says(reason)}" for reason, ids in listed.items() for id_ in ids)]
    for note in notes[:NOTES_SHOWN]:
        print(f"fault: {note}")
    if len(notes) > NOTES_SHOWN:
        print(f"and {len(notes) - NOTES_SHOWN:,} more")
    for name, value in (("scored", f"{result.scored:,}"), *rows):
        print(f"{name:<40}{value:>12}")
    counts = {reason: len(ids) for reason, ids in merged(loaded.dropped, loaded.kept, listed).items()}
    print(json.dumps(asdict(result) | {"faults": counts} | changed, ensure_ascii=False, allow_nan=False))
