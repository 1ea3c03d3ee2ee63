"""`report.html` of a benchmark's run: its figures, tables, charts and worst answers. Reads the run's folder only.

The page's form is in `suite_report.html.j2`; here is what it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.held_out import AnswerRecord, failure_name
from evaluation.numbers import counted_noun, fixed, percent, short
from evaluation.pages.bar_chart import bar_chart, is_wide, series_style
from evaluation.pages.gallery import Card, worst_answers
from evaluation.pages.page import Tile, write_page
from evaluation.suites.record import NO_VALUE, Cost, Spread, SuiteRecord, read_record
from evaluation.suites.registry import suite_of_record
from evaluation.suites.suite import Bars, Table

TEMPLATE = "suite_report.html.j2"
ANSWERS_SHOWN = 8
TALL_FROM = 9
"""Tables of at least this many columns have their headings upright: a benchmark of 17 settings then fits a page."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A bar chart with its legend (CSS class and name of each series), and its figures as a table."""

    title: str
    wide: bool
    legend: tuple[tuple[str, str], ...]
    chart: Markup
    table: Table


def write_suite_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a benchmark's run, and return its path.

    Raises:
        DataError: as `suites.record.read_record`.
    """
    record, answers = read_record(folder)
    tasks = {answer.task for answer in answers}
    return write_page(folder, TEMPLATE, _context(record, answers), tasks=tasks)


def _context(record: SuiteRecord, answers: Sequence[AnswerRecord]) -> dict[str, Any]:
    worst = worst_answers(answers, ANSWERS_SHOWN)
    return {
        "title": record.title,
        "model": record.model,
        "measured": _measured(record, answers),
        "tiles": [_tile(name, record.figures[name]) for name in _headline(record)],
        "facts": _facts(record),
        "notes": record.notes,
        "tables": record.tables,
        "plots": [_plot(bars) for bars in record.bars],
        "cost": _cost(record.cost),
        "worst": worst,
        "nothing_worst": _nothing_worst(answers),
        "counted": _counted(record, answers, worst),
        "sources": list(record.sources.items()),
        "TALL_FROM": TALL_FROM,
    }


def _measured(record: SuiteRecord, answers: Sequence[AnswerRecord]) -> str:
    """On what the figures stand, in one sentence."""
    settings = f" in {counted_noun(len(record.settings), 'setting')}" if len(record.settings) > 1 else ""
    scored = sum(answer.failure is None for answer in answers)
    without = f", of which {scored:,} {'has' if scored == 1 else 'have'} a value" if scored < len(answers) else ""
    asked = f"Measured on {counted_noun(record.questions, 'question')}{settings}"
    return f"{asked}, {counted_noun(len(answers), 'answer')}{without}."


def _headline(record: SuiteRecord) -> list[str]:
    """The benchmark's headline figures that have a value; of a benchmark without any, all figures."""
    suite = suite_of_record(record.suite)
    wanted = () if suite is None else suite.headline
    return [name for name in wanted if record.figures.get(name) is not None] or list(record.figures)


def _tile(name: str, figure: Spread | None) -> Tile:
    label = _words(name)
    if figure is None:
        return Tile(label, "–", "no value")
    known = sum(value is not None for value in figure.repeats)
    if len(figure.repeats) < 2:
        return Tile(label, fixed(figure.mean, 2), "")
    over = f"{known} of {len(figure.repeats)} repeats" if known < len(figure.repeats) else f"{known} repeats"
    return Tile(label, fixed(figure.mean, 2), f"{fixed(figure.low, 2)} to {fixed(figure.high, 2)} over {over}")


def _facts(record: SuiteRecord) -> list[tuple[str, str]]:
    """Which benchmark, when, and how it was asked."""
    facts = [("Benchmark", record.suite)]
    for name, value in record.sampling.items():
        label = _words(name)
        text = "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        facts.append((label[:1].upper() + label[1:], text))
    facts.append(("Started", record.started_at.replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC")))
    return facts


def _plot(bars: Bars) -> Plot:
    legend = tuple((series_style(bars, number), name) for number, (name, _) in enumerate(bars.series))
    columns = tuple(name for name, _ in bars.series)
    rows = tuple((group, tuple(values[at] for _, values in bars.series)) for at, group in enumerate(bars.groups))
    whole = all(value is None or value == round(value) for _, cells in rows for value in cells)
    table = Table(f"{bars.title}, figures", columns, rows, digits=0 if whole else 2)
    return Plot(bars.title, is_wide(bars), legend, bar_chart(bars), table)


def _cost(cost: Cost) -> list[Tile]:
    """What the answers cost; nothing where nothing was measured, as of a predictions file."""
    if all(value is None for value in (cost.response_tokens, cost.image_tokens, cost.seconds_per_question)):
        return []
    images = "tokens a question, mean" if cost.image_tokens is not None else "the model does not tell"
    seconds = "–" if cost.seconds_per_question is None else f"{fixed(cost.seconds_per_question, 2)} s"
    return [
        Tile("Response", fixed(cost.response_tokens), "tokens, mean"),
        Tile("Images", "–" if cost.image_tokens is None else short(cost.image_tokens), images),
        Tile("Time per question", seconds, "wall time of all over their number"),
        Tile("Cut off", percent(cost.overlong_share, 1), "responses at the token cap"),
    ]


def _nothing_worst(answers: Sequence[AnswerRecord]) -> str:
    """Why no answer is shown, where none is."""
    if not answers:
        return "There are no answers."
    if any(answer.failure is None for answer in answers):
        return "No answer scored below 100."
    if all(answer.failure == NO_VALUE for answer in answers):
        return "This benchmark gives single answers no value of their own: none is the worst."
    return "No answer has a value."


def _counted(record: SuiteRecord, answers: Sequence[AnswerRecord], worst: Sequence[Card]) -> list[tuple[str, str]]:
    """Whatever is in no figure, was odd or could not be had, by name; silence would hide it."""
    counted = [(f"left out, odd or not judged: {_words(why)}", f"{count:,}") for why, count in record.faults.items()]
    reasons = Counter(failure_name(answer.failure) for answer in answers if answer.failure is not None)
    counted += [
        (f"answers without a value: {_words(why)}", f"{count:,} of {len(answers):,}")
        for why, count in sorted(reasons.items())
    ]
    for what, count in (
        ("answers that are empty", sum(not answer.response.strip() for answer in answers)),
        ("answers cut off at the token cap", sum(answer.finish_reason == "length" for answer in answers)),
    ):
        counted += [(what, f"{count:,} of {len(answers):,}")] if count else []
    missing = sum(thumbnail.uri is None for card in worst for thumbnail in card.thumbnails)
    counted += [("images of this page that could not be read", str(missing))] if missing else []
    return counted


def _words(name: str) -> str:
    """A stable name as words: `accuracy/no_image` is "accuracy, no image"."""
    return name.replace("_", " ").replace("/", ", ")
