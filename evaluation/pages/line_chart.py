"""Line charts as inline SVG, drawn by hand: no script, no font and no library to load. Pure functions of numbers.

Colours and strokes are set by the page's style sheet through classes, so that a chart follows light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]
"""Step and value."""

MAX_POINTS = 240
"""Longer series are drawn as the means of equal stretches."""
SMOOTH_FROM = 12
"""Series shorter than this are drawn as they are."""
LABEL_GAP = 13.0
"""Least distance between the labels at the ends of two lines, in SVG units."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its label at the end of the line, the CSS class that colours it, and its points by ascending step."""

    label: str
    style: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """How values are written, and where the axis must reach."""

    write: Callable[[float], str]
    floor: float | None = None
    """The axis starts here or below; None fits the data."""
    limit: float | None = None
    """No tick lies above this (100 for a reward, 1 for a share)."""
    logarithmic: bool = False
    reference: float | None = None
    """A dashed line across the chart, such as a tolerance."""
    reference_label: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The drawing area and the mapping from (step, value) to SVG units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    steps: tuple[float, float]
    values: tuple[float, float]
    logarithmic: bool

    def x(self, step: float) -> float:
        first, last = self.steps
        share = (step - first) / (last - first) if last > first else 0.5
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.values
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (value - low) / (high - low)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


def line_chart(series: Sequence[Series], axis: Axis, description: str, width: int = 520, height: int = 250) -> Markup:
    """A chart of one or several series over the steps.

    Each step is a thin point of the raw line, which names its value when pointed at; from `SMOOTH_FROM` steps on a bold
    moving mean lies over it. Several series carry their labels at the ends of their lines. Values that are not finite
    are left out, and on a logarithmic axis those that are not positive.
    """
    drawn = [Series(one.label, one.style, _drawable(one.points, axis)) for one in series]
    drawn = [one for one in drawn if one.points]
    if not drawn:
        return Markup(
            '<svg class="chart" viewBox="0 0 {0} {1}" role="img" aria-label="{2}: no steps yet">'
            '<text class="nothing" x="{3}" y="{4}" text-anchor="middle">no steps yet</text></svg>'
        ).format(width, height, description, width / 2, height / 2)
    labelled = len(drawn) > 1
    frame, ticks = _frame(drawn, axis, width, height, right=78 if labelled else 14)
    parts = [_grid(frame, ticks, axis)]
    if axis.reference is not None and frame.values[0] <= axis.reference <= frame.values[1]:
        parts.append(_reference(frame, axis))
    parts += [_line(frame, one, axis) for one in drawn]
    if labelled:
        parts.append(_end_labels(frame, drawn))
    body = Markup("").join(parts)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, description, body
    )


def smooth(points: Sequence[Point]) -> tuple[Point, ...]:
    """The centred moving mean over about a tenth of the series; at its ends over what there is."""
    reach = max(1, len(points) // 20)
    values = [value for _, value in points]
    smoothed = []
    for index, (step, _) in enumerate(points):
        window = values[max(0, index - reach) : index + reach + 1]
        smoothed.append((step, sum(window) / len(window)))
    return tuple(smoothed)


def ticks(low: float, high: float, limit: float | None = None) -> list[float]:
    """Four to six round values from at or below `low` to at or above `high`, none above `limit`."""
    span = next((size for size in (high - low, abs(high)) if size > 1e-11), 1.0)  # ticks have twelve digits
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(size * magnitude for size in (1, 2, 2.5, 5, 10) if span / (size * magnitude) <= 5)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    found = [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]
    return [tick for tick in found if limit is None or tick <= limit]


def _drawable(points: Sequence[Point], axis: Axis) -> tuple[Point, ...]:
    kept = [(step, value) for step, value in points if math.isfinite(value) and not (axis.logarithmic and value <= 0)]
    if len(kept) <= MAX_POINTS:
        return tuple(kept)
    size = math.ceil(len(kept) / MAX_POINTS)
    stretches = [kept[start : start + size] for start in range(0, len(kept), size)]
    return tuple((stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches)


def _frame(series: Sequence[Series], axis: Axis, width: int, height: int, right: int) -> tuple[_Frame, list[float]]:
    values = [value for one in series for _, value in one.points]
    steps = [step for one in series for step, _ in one.points]
    if axis.reference is not None:
        values.append(axis.reference)
    low, high = min(values), max(values)
    if axis.logarithmic:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [10.0**exponent for exponent in exponents]
        marks = marks if len(marks) > 1 else [marks[0], marks[0] * 10]
        marks = marks[:: math.ceil(len(marks) / 6)] if len(marks) > 6 else marks
        limits = (marks[0], max(marks[-1], high))
    else:
        low = min(low, axis.floor) if axis.floor is not None else low
        marks = ticks(low, high, axis.limit)
        limits = (min(marks[0], low), max(marks[-1], high))
    frame = _Frame(width, height, 46, right, 12, 30, (min(steps), max(steps)), limits, axis.logarithmic)
    return frame, marks


def _grid(frame: _Frame, marks: Sequence[float], axis: Axis) -> Markup:
    lines = [
        Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
        ).format(
            frame.left, frame.width - frame.right, frame.y(mark), frame.left - 8, frame.y(mark) + 4, axis.write(mark)
        )
        for mark in marks
    ]
    first, last = (int(step) for step in frame.steps)
    numbers = sorted(
        {first, last} | {int(tick) for tick in ticks(first, last) if tick == int(tick) and first < tick < last}
    )
    # A round tick that would touch the last one gives way to it.
    near = (last - first) * 0.07
    numbers = [
        number for number in numbers if number in (first, last) or near <= number - first and near <= last - number
    ]
    lines += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            frame.x(number), frame.height - 10, f"step {number}" if number == first else number
        )
        for number in numbers
    ]
    return Markup("").join(lines)


def _reference(frame: _Frame, axis: Axis) -> Markup:
    assert axis.reference is not None
    y = frame.y(axis.reference)
    return Markup(
        '<line class="reference" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
        '<text class="tick" x="{1}" y="{3:.1f}" text-anchor="end">{4}</text>'
    ).format(frame.left, frame.width - frame.right, y, y + 14, axis.reference_label)


def _line(frame: _Frame, series: Series, axis: Axis) -> Markup:
    points = series.points
    smoothed = smooth(points) if len(points) >= SMOOTH_FROM else points
    raw = Markup('<path class="raw" d="{}"/>').format(_path(frame, points)) if smoothed is not points else Markup("")
    label = f"{series.label}, " if series.label else ""
    dots = Markup("").join(
        Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}step {:g}: {}</title></circle>').format(
            frame.x(step), frame.y(value), 5 if len(points) > 1 else 3, label, step, axis.write(value)
        )
        for step, value in points
    )
    single = " single" if len(points) == 1 else ""
    return Markup('<g class="series {}{}">{}<path class="bold" d="{}"/>{}</g>').format(
        series.style, single, raw, _path(frame, smoothed), dots
    )


def _path(frame: _Frame, points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in points)


def _end_labels(frame: _Frame, series: Sequence[Series]) -> Markup:
    """The labels at the ends of the lines, pushed apart where they would overlap."""
    ends = [
        (frame.y((smooth(one.points) if len(one.points) >= SMOOTH_FROM else one.points)[-1][1]), one) for one in series
    ]
    ends.sort(key=lambda end: end[0])
    places = [y for y, _ in ends]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + LABEL_GAP)
    # What was pushed below the axis comes back up.
    lowest = frame.height - frame.bottom + 4
    for index in reversed(range(len(places))):
        places[index] = min(places[index], lowest - LABEL_GAP * (len(places) - 1 - index))
    x = frame.width - frame.right + 6
    return Markup("").join(
        Markup('<text class="end {}" x="{:.1f}" y="{:.1f}">{}</text>').format(one.style, x, y + 4, escape(one.label))
        for y, (_, one) in zip(places, ends, strict=True)
    )
