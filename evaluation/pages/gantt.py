"""A picture of who did what when, as inline SVG: a row for each process, a bar for each thing it did.

Colours and strokes are set by the page's style sheet through classes, so that it follows light, dark and print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evaluation.numbers import fixed, fixed_tick
from evaluation.pages.line_chart import ticks

WIDTH = 1080.0
_LEFT, _RIGHT, _TOP = 96.0, 12.0, 26.0
_ROW, _BAR = 22.0, 14.0
_LEAST = 0.4
"""Width of the thinnest bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that was done; times are in seconds."""

    began: float
    ended: float
    what: str
    style: str
    """CSS class that colours it."""


@dataclass(frozen=True, slots=True)
class GanttRow:
    """One process."""

    name: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment."""

    at: float
    what: str
    bad: bool = False
    """Whether something went wrong then."""


def gantt(title: str, rows: Sequence[GanttRow], marks: Sequence[Mark], seconds: float) -> Markup:
    """The rows from 0 to `seconds`; what lies outside is left out. A bar says what it is when pointed at."""
    height = _TOP + _ROW * len(rows) + 26
    body = [_axis(seconds, height), *(_row(row, number, seconds) for number, row in enumerate(rows))]
    body += [_mark(mark, seconds, height) for mark in marks if 0 <= mark.at <= seconds]
    return Markup('<svg class="chart gantt" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, title, Markup("").join(body)
    )


def _x(at: float, seconds: float) -> float:
    return _LEFT + min(max(at, 0.0), seconds) / seconds * (WIDTH - _LEFT - _RIGHT)


def _axis(seconds: float, height: float) -> Markup:
    lines = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.0f}" y2="{2:.0f}"/>'
            '<text class="tick" x="{0:.1f}" y="{3:.0f}" text-anchor="middle">{4}</text>'
        ).format(_x(at, seconds), _TOP - 6, height - 22, height - 6, f"{fixed_tick(at)} s")
        for at in ticks(0.0, seconds, seconds)
    ]
    return Markup("").join(lines)


def _row(row: GanttRow, number: int, seconds: float) -> Markup:
    y = _TOP + number * _ROW
    bars = [
        Markup(
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}"><title>{}: {}, {} to {} s</title></rect>'
        ).format(
            bar.style,
            _x(bar.began, seconds),
            y,
            max(_LEAST, _x(bar.ended, seconds) - _x(bar.began, seconds)),
            f"{_BAR:g}",
            row.name,
            bar.what,
            fixed(bar.began),
            fixed(bar.ended),
        )
        for bar in row.bars
        if bar.ended > 0 and bar.began < seconds
    ]
    name = Markup('<text class="group" x="{:.0f}" y="{:.1f}" text-anchor="end">{}</text>').format(
        _LEFT - 8, y + 11, row.name
    )
    return Markup("").join([name, *bars])


def _mark(mark: Mark, seconds: float, height: float) -> Markup:
    return Markup(
        '<line class="{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.0f}" y2="{3:.0f}"><title>{4}</title></line>'
        '<text class="{0}" x="{1:.1f}" y="14" text-anchor="middle">{5}<title>{4}</title></text>'
    ).format(
        "lost" if mark.bad else "step",
        _x(mark.at, seconds),
        _TOP - 8,
        height - 22,
        mark.what,
        "✕" if mark.bad else mark.what,
    )
