"""Judges against people: does a judge's score follow the annotators, and do the annotators agree?

python -m evaluation.raters RATINGS.jsonl SCORES.jsonl [--json]

RATINGS holds a line for every annotator and item, {"item": ..., "task": ..., "annotator": ..., "rating": 0-100},
SCORES one for every judge and item, {"item": ..., "judge": ..., "score": 0-100}; other keys are not read. Gold is the
mean of an item's annotators (AutoDriveRL, Appendix I: 300 items, three annotators). No torch, no ray.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import krippendorff
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from scipy import stats

from data.errors import DataError
from data.text_file import read_lines
from evaluation.bootstrap import Floats, draws, interval
from evaluation.numbers import counted_noun, fixed

ALL_TASKS = "all"
FEWEST = 3
"""Two points always lie on a line: below three items a correlation says nothing."""
PROBLEMS_SHOWN = 10


class RatersError(ValueError):
    """Ratings or scores that cannot be used; the message names file and line."""


@dataclass(frozen=True, slots=True)
class RatedItem:
    """An item and the rating (0-100) that each annotator gave it."""

    task: str
    ratings: Mapping[str, float]

    @property
    def gold(self) -> float:
        """The mean of its annotators."""
        return float(np.mean(list(self.ratings.values())))


@dataclass(frozen=True, slots=True)
class Agreement:
    """One judge against people on one task (`all` together). Of no meaning, and None, where it is undefined."""

    judge: str
    task: str
    items: int
    pearson: float | None
    """Pearson's r of the judge's score and gold; None below three items or when either does not vary."""
    low: float | None
    """Lower end of the 95 % bootstrap interval of r."""
    high: float | None
    undefined_resamples: int
    """Resamples in which r is undefined, left out of the interval."""
    alpha: float | None
    """Krippendorff's alpha (interval level) among the annotators, on the items of this row."""
    alpha_with_judge: float | None
    """The same with the judge as one more annotator."""


@dataclass(frozen=True, slots=True)
class RatersReport:
    """All agreements, and what could not be used."""

    annotators: tuple[str, ...]
    rows: tuple[Agreement, ...]
    partly_rated: tuple[str, ...]
    """Items that not every annotator rated; their gold is the mean of those who did."""
    unscored: dict[str, tuple[str, ...]]
    """Judge to the rated items it has no score for."""
    unrated: dict[str, tuple[str, ...]]
    """Judge to the items it scored that nobody rated."""


# --- the mathematics --------------------------------------------------------------------------------------------------


def pearson(x: Floats, y: Floats) -> float | None:
    """Pearson's r of two series, or None below three points or when one of them is constant."""
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(stats.pearsonr(x, y).statistic)


def bootstrap_interval(x: Floats, y: Floats, resamples: int, seed: int) -> tuple[float | None, float | None, int]:
    """The percentile interval (95 %) of Pearson's r when items are drawn anew with replacement.

    Returns:
        Lower end, upper end, and the number of resamples in which r is undefined because a series is constant. Both
        ends are None when r itself or every resample is undefined.
    """
    if pearson(x, y) is None:
        return None, None, 0
    found: list[Floats] = []
    for drawn in draws(len(x), resamples, seed):
        defined = (np.ptp(x[drawn], axis=1) > 0) & (np.ptp(y[drawn], axis=1) > 0)
        of_draws = np.full(len(drawn), np.nan)
        if defined.any():
            of_draws[defined] = stats.pearsonr(x[drawn[defined]], y[drawn[defined]], axis=1).statistic
        found.append(of_draws)
    return interval(np.concatenate(found))


def alpha(ratings: Floats) -> float | None:
    """Krippendorff's alpha at interval level.

    Args:
        ratings: annotators x items, NaN where one is missing.

    Returns:
        None when all ratings are equal, or no item was rated twice: there is nothing to agree or disagree on.
    """
    pairable = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if np.unique(pairable[~np.isnan(pairable)]).size < 2:
        return None
    return float(krippendorff.alpha(pairable, level_of_measurement="interval"))


def agreement(
    judge: str,
    task: str,
    items: Sequence[tuple[RatedItem, float]],
    annotators: Sequence[str],
    resamples: int,
    seed: int,
) -> Agreement:
    """One row of the report, from the items that have both ratings and the judge's score."""
    gold = np.array([item.gold for item, _ in items], dtype=np.float64)
    scores = np.array([score for _, score in items], dtype=np.float64)
    people = np.array(
        [[item.ratings.get(annotator, np.nan) for item, _ in items] for annotator in annotators], dtype=np.float64
    )
    low, high, undefined = bootstrap_interval(gold, scores, resamples, seed)
    return Agreement(
        judge=judge,
        task=task,
        items=len(items),
        pearson=pearson(gold, scores),
        low=low,
        high=high,
        undefined_resamples=undefined,
        alpha=alpha(people),
        alpha_with_judge=alpha(np.vstack([people, scores])),
    )


def compare(
    ratings: Mapping[str, RatedItem],
    scores: Mapping[str, Mapping[str, float]],
    resamples: int = 10_000,
    seed: int = 0,
) -> RatersReport:
    """Every judge against the annotators, per task and on all tasks together.

    Args:
        ratings: item id to its ratings.
        scores: judge to its score (0-100) by item id.
        resamples: bootstrap resamples; more make the interval steadier.
        seed: of the resampling; the report depends on the rows and the seed, not on their order.
    """
    annotators = tuple(sorted({annotator for item in ratings.values() for annotator in item.ratings}))
    rows: list[Agreement] = []
    for judge, of_judge in sorted(scores.items()):
        both = [(ratings[item], of_judge[item]) for item in sorted(of_judge) if item in ratings]
        tasks = sorted({item.task for item, _ in both})
        for task in [*tasks, ALL_TASKS] if len(tasks) != 1 else tasks:
            of_task = [(item, score) for item, score in both if task in (ALL_TASKS, item.task)]
            rows.append(agreement(judge, task, of_task, annotators, resamples, seed))
    return RatersReport(
        annotators,
        tuple(rows),
        partly_rated=tuple(sorted(item for item, rated in ratings.items() if len(rated.ratings) < len(annotators))),
        unscored={judge: tuple(sorted(ratings.keys() - of_judge.keys())) for judge, of_judge in sorted(scores.items())},
        unrated={judge: tuple(sorted(of_judge.keys() - ratings.keys())) for judge, of_judge in sorted(scores.items())},
    )


# --- the reading ------------------------------------------------------------------------------------------------------

_Name = Annotated[str, StringConstraints(min_length=1)]
_Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Rating(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    item: _Name
    task: _Name
    annotator: _Name
    rating: _Points


class _JudgeScore(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    item: _Name
    judge: _Name
    score: _Points


_Row = TypeVar("_Row", bound=BaseModel)


def read_ratings(path: Path) -> dict[str, RatedItem]:
    """Ratings by item.

    Raises:
        RatersError: bad rows (each named by file and line), an annotator who rated an item twice, an item of two
            tasks, fewer than two annotators, or a file that cannot be read.
    """
    items: dict[str, RatedItem] = {}
    problems: list[str] = []
    for place, row in _rows(path, _Rating, problems):
        known = items.setdefault(row.item, RatedItem(row.task, {}))
        if row.annotator in known.ratings:
            problems.append(f"{place}: {row.annotator} has already rated item {row.item}")
        elif row.task != known.task:
            problems.append(f"{place}: item {row.item} is of task {known.task} further up, and of {row.task} here")
        else:
            items[row.item] = replace(known, ratings={**known.ratings, row.annotator: row.rating})
    _refuse(problems)
    if len({annotator for item in items.values() for annotator in item.ratings}) < 2:
        raise RatersError(f"{path}: agreement needs ratings of at least two annotators")
    return items


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Scores by judge and item.

    Raises:
        RatersError: bad rows (each named by file and line), an item that a judge scored twice, no rows, or a file that
            cannot be read.
    """
    judges: dict[str, dict[str, float]] = {}
    problems: list[str] = []
    for place, row in _rows(path, _JudgeScore, problems):
        of_judge = judges.setdefault(row.judge, {})
        if row.item in of_judge:
            problems.append(f"{place}: {row.judge} has already scored item {row.item}")
        of_judge[row.item] = row.score
    _refuse(problems)
    if not judges:
        raise RatersError(f"{path} holds no scores")
    return judges


def _rows(path: Path, model: type[_Row], problems: list[str]) -> Iterable[tuple[str, _Row]]:
    try:
        lines = list(read_lines(path))
    except OSError as error:
        raise RatersError(f"{path} cannot be read: {error.strerror}") from None
    for number, line in lines:
        try:
            yield f"{path}:{number}", model.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(step) for step in first["loc"])
            problems.append(f"{path}:{number}: {f'{field}: ' if field else ''}{first['msg']}")


def _refuse(problems: Sequence[str]) -> None:
    if not problems:
        return
    more = len(problems) - PROBLEMS_SHOWN
    shown = [*problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    raise RatersError(f"{counted_noun(len(problems), 'bad row')}:\n" + "\n".join(shown))


# --- the command ------------------------------------------------------------------------------------------------------


def table(report: RatersReport) -> str:
    """The report for people."""
    header = ["judge", "task", "n", "r", "95 % interval", "α people", "α with judge"]
    lines = [header]
    for row in report.rows:
        interval = "–" if row.low is None else f"[{fixed(row.low, 4)}, {fixed(row.high, 4)}]"
        numbers = [fixed(row.pearson, 4), interval, fixed(row.alpha, 4), fixed(row.alpha_with_judge, 4)]
        lines.append([row.judge, row.task, str(row.items), *numbers])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    undefined = sum(row.undefined_resamples for row in report.rows)
    notes = [f"annotators: {', '.join(report.annotators)}"]
    notes += _counted("not rated by every annotator", report.partly_rated)
    for judge in report.unscored:
        notes += _counted(f"rated, without a score of {judge}", report.unscored[judge])
        notes += _counted(f"scored by {judge}, without a rating", report.unrated[judge])
    if undefined:
        notes.append(f"{counted_noun(undefined, 'resample')} left out of the intervals: a series was constant")
    return "\n".join([*text, "", *notes])


def _counted(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"{counted_noun(len(items), 'item')} {what}: {', '.join(items[:3])}{', ...' if len(items) > 3 else ''}"]


def as_json(report: RatersReport) -> str:
    """The report for programs: one line."""
    tree: dict[str, Any] = asdict(report)
    return json.dumps(tree, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.raters", description="Judges against people, per task.")
    parser.add_argument("ratings", type=Path, help="JSONL: item, task, annotator, rating (0-100)")
    parser.add_argument("scores", type=Path, help="JSONL: item, judge, score (0-100)")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap resamples (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default %(default)s)")
    given = parser.parse_args(arguments)
    if given.resamples < 1:
        parser.error("--resamples must be at least 1")
    try:
        report = compare(read_ratings(given.ratings), read_scores(given.scores), given.resamples, given.seed)
    except (RatersError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    print(as_json(report) if given.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
