"""`evaluate.py compare A B`: what two runs answered to the same questions, as a table and a page. No torch, no ray."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data.errors import DataError
from evaluation.comparison.compared_run import ComparedRun, read_both, scored_differently
from evaluation.comparison.differences import Difference, Differences, differences
from evaluation.comparison.paired import IN_WORDS, Pairing, pair_answers
from evaluation.numbers import counted_noun, fixed, probability, signed
from evaluation.pages.compare_page import write_comparison
from extension import add_flags

HEADER = ("", "questions", "A", "B", "B − A", "95 % interval", "p", "better", "worse", "same", "flips", "drawn anew")


class Comparison(BaseModel):
    """Which runs are compared, and how; each field is a part of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    a: Path
    """A training run's folder, one file of its evaluation/, or the folder of a benchmark's run."""
    b: Path
    """Likewise; differences are B less A."""
    out: Path = Path("compare.html")
    """The page to write."""
    resamples: int = Field(10_000, ge=1)
    """Bootstrap resamples."""
    seed: int = Field(0, ge=0)
    """Seed of the resampling."""
    evaluation: str | None = None
    """Of training runs: which one (default: after, or the only one there is)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    for side in ("a", "b"):
        parser.add_argument(side, metavar=side.upper(), help=Comparison.model_fields[side].description)
    add_flags(parser, Comparison, skip=("a", "b"))


def run(options: Comparison) -> int:
    """Compare; prints a table and, last, one JSON object, and writes the page. The exit code.

    Raises:
        DataError: a side cannot be read, no question is common to both, or the page cannot be written.
    """
    a, b = read_both(options.a, options.b, options.evaluation)
    pairing = pair_answers(a.answers, b.answers)
    if not pairing.pairs:
        reasons = ", ".join(f"{number} {IN_WORDS[reason]}" for reason, number in pairing.left_out.items())
        raise DataError(f"{a.path} and {b.path} have no scored question in common ({reasons or 'no answers at all'})")
    found = differences(pairing.pairs, options.resamples, options.seed)
    warning = scored_differently(a, b)
    try:
        page = write_comparison(options.out, (a, b), pairing, found, warning)
    except OSError as error:
        raise DataError(f"--out {options.out} cannot be written: {error.strerror}") from None
    print(
        "\n".join([*_sides(a, b), *([f"warning: {warning}"] if warning else []), *_left_out(pairing), *_table(found)])
    )
    print(json.dumps(_figures(a, b, pairing, found, warning, page), ensure_ascii=False, allow_nan=False))
    return 0


def _sides(a: ComparedRun, b: ComparedRun) -> Iterator[str]:
    for letter, side in (("A", a), ("B", b)):
        yield f"{letter}: {side.path} ({side.measured})"


def _left_out(pairing: Pairing) -> Iterator[str]:
    for reason, number in pairing.left_out.items():
        yield f"left out: {counted_noun(number, 'question')} {IN_WORDS[reason]}"


def _table(found: Differences) -> Iterator[str]:
    settings = [_row(name or "no setting", one) for name, one in found.settings.items()]
    lines = [
        HEADER,
        *(_row(task, one) for task, one in found.tasks.items()),
        *settings,
        _row("mean of tasks", found.overall),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    for name, *cells in lines:
        rest = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *rest])


def _row(name: str, one: Difference) -> tuple[str, ...]:
    interval = "–" if one.low is None else f"[{signed(one.low, 2)}, {signed(one.high, 2)}]"
    values = (fixed(one.a, 2), fixed(one.b, 2), signed(one.difference, 2), interval, probability(one.p))
    counts = (one.better, one.worse, one.same, one.flips)
    return (name, str(one.questions), *values, *map(str, counts), f"{one.units} {one.resampled}")


def _figures(
    a: ComparedRun, b: ComparedRun, pairing: Pairing, found: Differences, warning: str | None, page: Path
) -> dict[str, Any]:
    return {
        "a": str(a.path),
        "b": str(b.path),
        "tasks": {task: _of_row(one) for task, one in found.tasks.items()},
        "settings": {name: _of_row(one) for name, one in found.settings.items()},
        "overall": _of_row(found.overall),
        "left_out": pairing.left_out,
        "warning": warning,
        "page": str(page),
    }


def _of_row(one: Difference) -> dict[str, Any]:
    figures = asdict(one)
    return {"n": figures.pop("questions"), **figures}
