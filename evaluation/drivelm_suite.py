"""`evaluate.py drivelm`: the DriveLM challenge's score from files. No torch, no ray."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from data.errors import DataError
from evaluation.drivelm import DriveLMResult, score_files
from evaluation.numbers import fixed

NOTES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    parser.add_argument("--predictions", type=Path, required=True, help='JSON: [{"id", "answer"}, ...] (output.json)')
    parser.add_argument("--answers", type=Path, required=True, help="the challenge's answer file (test_eval.json)")
    parser.add_argument("--strict", action="store_true", help="a fault in either file ends the scoring")
    parser.add_argument("--details", type=Path, help="write every pair's scores and every fault to this JSON file")


def run(options: argparse.Namespace) -> int:
    """Score; prints the faults, a table and, last, one JSON object. The exit code.

    Raises:
        DataError: as `evaluation.drivelm.score_files`; the details cannot be written.
    """
    result = score_files(options.answers, options.predictions, strict=options.strict)
    if options.details:
        _write_details(options.details, result)
    print(_table(result))
    print(json.dumps(result.figures(), allow_nan=False))
    return 0


def _write_details(path: Path, result: DriveLMResult) -> None:
    details = {"figures": result.figures(), "faults": result.faults, "pairs": [asdict(pair) for pair in result.pairs]}
    try:
        path.write_text(json.dumps(details, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"--details {path} cannot be written: {error.strerror}") from None


def _table(result: DriveLMResult) -> str:
    lines = [f"fault: {note}" for note in result.notes[:NOTES_SHOWN]]
    if len(result.notes) > NOTES_SHOWN:
        lines.append(f"and {len(result.notes) - NOTES_SHOWN:,} more (--details FILE has them all)")
    judge = fixed(result.judge, 2) if result.judged else "0 (no judge)"
    rows = [
        ("accuracy", result.samples["accuracy"], fixed(result.accuracy, 4)),
        ("judge", result.samples["judge"], judge),
        ("language", result.samples["language"], fixed(result.language, 4)),
        ("match F1", result.samples["match"], fixed(result.match_f1, 2)),
        ("final score", result.scored, fixed(result.final_score, 4)),
    ]
    lines.append(f"{result.scored:,} of {result.questions:,} questions are kept")
    return "\n".join(
        [*lines, f"{'part':<12}{'pairs':>8}{'score':>14}", *(f"{a:<12}{b:>8,}{c:>14}" for a, b, c in rows)]
    )
