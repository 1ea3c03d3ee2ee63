"""The folder that a benchmark's run leaves: `results.json`, `answers.jsonl`, and their reader. No torch, no ray.

The runner (`actors/measuring/benchmark.py`) writes them; the report and the comparison of runs read them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import DataError
from evaluation.held_out import AnswerRecord
from evaluation.suites.suite import Bars, Scored, Table

RESULTS_FILE = "results.json"
ANSWERS_FILE = "answers.jsonl"
NO_VALUE = "no_value_of_its_own"
"""`failure` of an answer whose benchmark gives single answers no value."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Spread(_Record):
    """A figure over the repeats of a benchmark."""

    mean: float
    low: float
    high: float
    repeats: tuple[float | None, ...]
    """The figure of each repeat; None where it has no value."""


class Cost(_Record):
    """What the answers cost (as AutoDriveRL's Table 5, which counts image tokens for one image, not for a question)."""

    response_tokens: float | None
    """Mean length of a response."""
    image_tokens: float | None
    """Mean number of tokens the images of a question take; None where the model does not tell."""
    seconds_per_question: float | None
    """Wall time of all questions over their number: what a batch run pays, not the latency of one."""
    overlong_share: float | None
    """Share of responses cut off at the token cap."""


class SuiteRecord(_Record):
    """`results.json`: what a benchmark measured of a model."""

    suite: str
    title: str
    """What the benchmark is, in words."""
    model: str
    """Folder, hub name, run folder or URL that was measured; or the predictions file."""
    sampling: dict[str, float | int | str | None]
    """How it was asked: temperature, repeats, max_tokens, judge, seed."""
    sources: dict[str, str]
    """The files behind the questions, by option."""
    started_at: str
    """UTC, ISO 8601."""
    questions: int
    settings: tuple[str, ...]
    figures: dict[str, Spread | None]
    """Headline figures by name; None where there is no value in any repeat."""
    tables: tuple[Table, ...]
    bars: tuple[Bars, ...]
    cost: Cost
    faults: dict[str, int]
    """What was left out or odd, and judgements that could not be had, counted by reason over all repeats."""
    notes: tuple[str, ...] = ()
    """What a reader must know beside the figures."""


def spread(values: Sequence[float | None]) -> Spread | None:
    """A figure's values in the repeats as mean and range; None when there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(mean=statistics.fmean(known), low=min(known), high=max(known), repeats=tuple(values))


def combined_figures(repeats: Sequence[Scored]) -> dict[str, Spread | None]:
    """The figures of all repeats by name."""
    names = dict.fromkeys(name for one in repeats for name in one.figures)
    return {name: spread([one.figures.get(name) for one in repeats]) for name in names}


def combined_tables(repeats: Sequence[Scored]) -> tuple[Table, ...]:
    """The tables with each cell as the mean of the repeats; a row stands where any repeat has it."""
    combined = []
    for number, table in enumerate(repeats[0].tables):
        of_repeats = [dict(one.tables[number].rows) for one in repeats]
        names = dict.fromkeys(name for rows in of_repeats for name in rows)
        rows = tuple((name, _cells([rows[name] for rows in of_repeats if name in rows])) for name in names)
        combined.append(replace(table, rows=rows))
    return tuple(combined)


def combined_bars(repeats: Sequence[Scored]) -> tuple[Bars, ...]:
    """The bars with each height as the mean of the repeats; a group stands where any repeat has it."""
    combined = []
    for number, bars in enumerate(repeats[0].bars):
        of_repeats = [
            {(which, group): value for which, heights in one.bars[number].series
             for group, value in zip(one.bars[number].groups, heights, strict=True)}
            for one in repeats
        ]  # fmt: skip
        groups = tuple(dict.fromkeys(group for one in repeats for group in one.bars[number].groups))
        series = tuple(dict.fromkeys(which for one in repeats for which, _ in one.bars[number].series))
        heights = tuple(
            (which, _cells([[found.get((which, group)) for group in groups] for found in of_repeats]))
            for which in series
        )
        combined.append(replace(bars, groups=groups, series=heights))
    return tuple(combined)


def write_record(folder: Path, record: SuiteRecord, answers: Iterable[AnswerRecord]) -> None:
    """Write both files of the folder; the answers first, so that results without answers are never seen."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (ANSWERS_FILE, "".join(answer.model_dump_json() + "\n" for answer in answers)),
        (RESULTS_FILE, record.model_dump_json(indent=1) + "\n"),
    ):
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / name)


def read_record(folder: Path) -> tuple[SuiteRecord, list[AnswerRecord]]:
    """Read the folder back.

    Raises:
        DataError: it is not the folder of a benchmark's run, or a file in it was not written by this version.
    """
    return read_results(folder), list(read_answers(folder))


def read_results(folder: Path) -> SuiteRecord:
    """What was measured, without the answers.

    Raises:
        DataError: as `read_record`.
    """
    for name in (RESULTS_FILE, ANSWERS_FILE):
        if not (folder / name).is_file():
            raise DataError(f"{folder} is not the folder of a benchmark's run: it has no {name}")
    try:
        return SuiteRecord.model_validate_json((folder / RESULTS_FILE).read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / RESULTS_FILE} is not as this version writes it: {first_problem(error)}") from None


def read_answers(folder: Path) -> Iterator[AnswerRecord]:
    """The answers one after the other: those of a whole training set, eight to a question, fit into no memory.

    Raises:
        DataError: a line is no answer, when it is reached.
    """
    with (folder / ANSWERS_FILE).open("rb") as file:  # as bytes: only a line feed ends a line, whatever an answer holds
        for number, line in enumerate(file, start=1):
            try:
                yield AnswerRecord.model_validate_json(line)
            except ValidationError as error:
                raise DataError(
                    f"{folder / ANSWERS_FILE}: line {number} is no answer: {first_problem(error)}"
                ) from None


def _cells(of_repeats: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
    means = [spread(values) for values in zip(*of_repeats, strict=True)]
    return tuple(None if mean is None else mean.mean for mean in means)


def first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    """What is wrong with a file's text, in a few words."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
