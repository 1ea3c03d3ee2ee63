"""What the suites that score a predictions file share: their arguments, its faults, the printed result. No torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.faults import Faults
from evaluation.metrics.predictions import Predictions, read_predictions, says
from evaluation.metrics.result import SuiteResult
from evaluation.suites.suite import Scored

NOTES_SHOWN = 20


def add_strict(parser: argparse.ArgumentParser) -> None:
    """`--strict`."""
    parser.add_argument("--strict", action="store_true", help="a fault in any file ends the scoring")


def add_predictions(parser: argparse.ArgumentParser, id_key: str = "id", what: str = "the question's id") -> None:
    """`--predictions` with the members of its records, and `--strict`."""
    form = f'JSON or JSONL: [{{"{id_key}": {what}, "answer": text}}, ...]'
    parser.add_argument("--predictions", type=Path, help=form)
    parser.add_argument("--id-key", default=id_key, help=f"the member that holds the id (default: {id_key})")
    parser.add_argument("--answer-key", default="answer", help="the member that holds the output (default: answer)")
    add_strict(parser)


def add_image_root(parser: argparse.ArgumentParser, what: str) -> None:
    """`--image-root`, which only asking a model needs."""
    parser.add_argument("--image-root", type=Path, help=f"{what}; needed to ask a model")


def predictions_of(
    options: argparse.Namespace, as_record: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> Predictions:
    """The predictions file of the command line.

    Raises:
        DataError: as `read_predictions`.
    """
    return read_predictions(
        options.predictions,
        id_key=options.id_key,
        answer_key=options.answer_key,
        strict=options.strict,
        as_record=as_record,
    )


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
    return (*loaded.notes, *(f"{id_} {says(reason)}" for reason, ids in listed.items() for id_ in ids))


def print_scored(scored: Scored) -> None:
    """Print the faults, the figures as a table and, last, one JSON object that counts faults by reason."""
    for note in scored.notes[:NOTES_SHOWN]:
        print(_printable(f"fault: {note}"))
    if len(scored.notes) > NOTES_SHOWN:
        print(f"and {len(scored.notes) - NOTES_SHOWN:,} more")
    for name, value in (("scored", f"{scored.result.scored:,}"), *scored.rows):
        print(f"{name:<40}{value:>12}")
    print(_printable(json.dumps(scored.told | {"faults": scored.faults}, ensure_ascii=False, allow_nan=False)))


def _printable(text: str) -> str:
    """A text whose halves of characters, which JSON may hold and no terminal takes, are written as JSON writes them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def needed_image_root(options: argparse.Namespace) -> Path:
    """`--image-root`, without which no image can be shown.

    Raises:
        DataError: it is not given, or is no folder.
    """
    if options.image_root is None or not options.image_root.is_dir():
        given = "is not given" if options.image_root is None else f"{options.image_root} is not a folder"
        raise DataError(f"--image-root {given}: to ask a model, name the folder that its images are looked for in")
    root: Path = options.image_root
    return root
