"""Bar charts as inline SVG, drawn by hand like those of `line_chart`. Pure functions of numbers.

Colours and strokes are set by the page's style sheet through classes, so that a chart follows light, dark and print.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from data.sample import TASKS
from evaluation.numbers import fixed, fixed_tick
from evaluation.pages.line_chart import ticks
from evaluation.suites.suite import Bars

WIDTHS = (480, 1080)
"""Half of a page and the whole of it, in SVG units."""
SLOT_WIDTH = 11.0
"""A chart whose bars would be narrower than this on half a page takes the whole."""
NUMBERED_WIDTH = 27.0
"""Bars from this width on carry their value."""
STYLES = 8
"""How many series have colours of their own; the ninth takes the first one's again."""

_CHARACTER = 6.6
"""Width of a letter at the labels' size, rather too much: which font a reader has is not known."""
_LINE = 14.0
_PLOT_HEIGHT = 200.0
_TOP, _RIGHT, _LEFT = 34.0, 8.0, 46.0
_MOST_LINES = 3
_TURNED_CHARACTERS = 36
_TILT = 40.0
"""Degrees by which labels that are too long to lie flat are turned."""
_FILLED = 0.78
"""Share of a group's width that its bars take."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The drawing area, and the mapping from (group, value) to SVG units."""

    width: float
    left: float
    groups: int
    low: float
    high: float

    @property
    def group_width(self) -> float:
        return (self.width - self.left - _RIGHT) / self.groups

    @property
    def bottom(self) -> float:
        return _TOP + _PLOT_HEIGHT

    def middle(self, group: int) -> float:
        return self.left + (group + 0.5) * self.group_width

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * _PLOT_HEIGHT


@dataclass(frozen=True, slots=True)
class _Labels:
    """The lines of each group's label, and whether they are turned."""

    lines: tuple[tuple[str, ...], ...]
    turned: bool

    @property
    def height(self) -> float:
        if not self.turned:
            return 8 + _LINE * max(map(len, self.lines))
        return 16 + max(map(_length, self.lines)) * math.sin(math.radians(_TILT))

    def overhang(self, frame: _Frame) -> float:
        """How far turned labels reach beyond the left edge of the drawing."""
        if not self.turned:
            return 0.0
        reach = [_length(lines) * math.cos(math.radians(_TILT)) for lines in self.lines]
        return max(0.0, *(length - frame.middle(group) for group, length in enumerate(reach)))


def bar_chart(bars: Bars) -> Markup:
    """For each group one bar of each series, on an axis that starts at 0 and reaches below it where values do.

    A bar names its group, series and value when pointed at, and wide bars carry the value. A value that is None or not
    finite leaves a gap, a value of 0 a line on the axis. Labels of groups are wrapped, or turned where that is not
    enough; the whole of a label that is cut is its title.
    """
    known = [value for _, values in bars.series for value in map(_finite, values) if value is not None]
    if not known:
        return Markup(
            '<svg class="chart bars" viewBox="0 0 {0} 120" role="img" aria-label="{1}: no figures">'
            '<text class="nothing" x="{2}" y="64" text-anchor="middle">no figures</text></svg>'
        ).format(WIDTHS[0], bars.title, WIDTHS[0] / 2)
    width = WIDTHS[is_wide(bars)]
    marks = ticks(min(0.0, *known), max(0.0, bars.highest or 0.0, *known), bars.highest or None)
    low, high = min(marks[0], *known), max(marks[-1], *known)
    frame = _Frame(width, _LEFT, len(bars.groups), low, high)
    labels = _labels(bars.groups, frame.group_width)
    frame = _Frame(width, _LEFT + labels.overhang(frame), len(bars.groups), low, high)
    body = Markup("").join(
        [_grid(frame, marks, bars.unit), _bars(frame, bars, _digits(known)), _group_labels(frame, labels, bars)]
    )
    names = ", ".join(name for name, _ in bars.series)
    description = f"{bars.title} ({bars.unit}): {names}" if bars.unit else f"{bars.title}: {names}"
    return Markup('<svg class="chart bars {}" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        "wide" if is_wide(bars) else "half", width, frame.bottom + labels.height, description, body
    )


def is_wide(bars: Bars) -> bool:
    """Whether the chart takes the whole width of a page."""
    slots = len(bars.groups) * (len(bars.series) + 1)
    return slots * SLOT_WIDTH > WIDTHS[0] - _LEFT - _RIGHT


def series_style(bars: Bars, number: int) -> str:
    """The CSS class that colours a series: the task's own colour where the series are tasks."""
    names = {name for name, _ in bars.series}
    return bars.series[number][0] if names <= set(TASKS) else f"series-{number % STYLES + 1}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _grid(frame: _Frame, marks: Sequence[float], unit: str) -> Markup:
    right = frame.width - _RIGHT
    lines = [
        Markup(
            '<line class="{0}" x1="{1:.1f}" x2="{2:.1f}" y1="{3:.1f}" y2="{3:.1f}"/>'
            '<text class="tick" x="{4:.1f}" y="{5:.1f}" text-anchor="end">{6}</text>'
        ).format(
            "grid base" if mark == 0 else "grid", frame.left, right, frame.y(mark),
            frame.left - 8, frame.y(mark) + 4, fixed_tick(mark),
        )
        for mark in marks
    ]  # fmt: skip
    lines.append(Markup('<text class="unit" x="{:.1f}" y="12">{}</text>').format(frame.left - _LEFT + 4, unit))
    return Markup("").join(lines)


def _bars(frame: _Frame, bars: Bars, digits: int) -> Markup:
    slot = frame.group_width * _FILLED / len(bars.series)
    width = max(slot - (2.0 if slot > 8 else 0.5), 1.0)
    drawn = []
    for number, (name, values) in enumerate(bars.series):
        rects = []
        for group, value in enumerate(map(_finite, values)):
            if value is None:
                continue
            x = frame.middle(group) - slot * len(bars.series) / 2 + number * slot + (slot - width) / 2
            top, end = sorted((frame.y(value), frame.y(0.0)))
            rects.append(
                Markup(
                    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}, {}: {}</title></rect>'
                ).format(
                    x, min(top, end - 1), width, max(end - top, 1.0), bars.groups[group], name, fixed(value, digits)
                )
            )
            if width >= NUMBERED_WIDTH:
                y = top - 5 if value >= 0 else end + 13
                rects.append(
                    Markup('<text class="value" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
                        x + width / 2, y, fixed(value, digits)
                    )
                )
        drawn.append(Markup('<g class="{}">{}</g>').format(series_style(bars, number), Markup("").join(rects)))
    return Markup("").join(drawn)


def _labels(groups: Sequence[str], width: float) -> _Labels:
    """The groups' names flat, in up to three lines, where they fit in the width; else turned, each in one line."""
    most = max(int(width / _CHARACTER), 1)
    flat = [tuple(textwrap.wrap(group, most, break_long_words=False)) or ("",) for group in groups]
    if all(len(lines) <= _MOST_LINES and max(map(len, lines)) <= most for lines in flat):
        return _Labels(tuple(flat), turned=False)
    cut = (group if len(group) <= _TURNED_CHARACTERS else f"{group[: _TURNED_CHARACTERS - 1]}…" for group in groups)
    return _Labels(tuple((group,) for group in cut), turned=True)


def _length(lines: Sequence[str]) -> float:
    return _CHARACTER * max(map(len, lines))


def _digits(values: Sequence[float]) -> int:
    """Decimals that the values of one chart share."""
    if all(value == round(value) for value in values):
        return 0
    highest = max(map(abs, values))
    return 1 if highest >= 10 else 2 if highest >= 1 else 3


def _group_labels(frame: _Frame, labels: _Labels, bars: Bars) -> Markup:
    drawn = []
    for group, lines in enumerate(labels.lines):
        x, y = frame.middle(group), frame.bottom + (14 if labels.turned else 4)
        turn, anchor = Markup(""), "middle"
        if labels.turned:
            turn, anchor = Markup(' transform="rotate(-{:g} {:.1f} {:.1f})"').format(_TILT, x, y), "end"
        text = Markup("").join(
            Markup('<tspan x="{:.1f}" dy="{:g}">{}</tspan>').format(x, 0 if labels.turned else _LINE, line)
            for line in lines
        )
        drawn.append(
            Markup('<text class="group" x="{:.1f}" y="{:.1f}" text-anchor="{}"{}><title>{}</title>{}</text>').format(
                x, y, anchor, turn, bars.groups[group], text
            )
        )
    return Markup("").join(drawn)
