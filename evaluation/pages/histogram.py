"""Histograms of scores as inline SVG, a part of them in another colour and a band marked. Pure functions of numbers.

As in `line_chart`, colours are set by the page's style sheet through classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evaluation.numbers import fixed_tick
from evaluation.pages.line_chart import ticks

BIN_WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
MOST_BINS = 32
LOWEST, HIGHEST = 0.0, 100.0
"""No bin reaches beyond the scale of scores."""
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 30
"""Margins in SVG units, those of a line chart."""

Band = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie from `low` to below `high`, and how many of the chosen ones."""

    low: float
    high: float
    count: int
    chosen: int


def bins(
    values: Sequence[float], chosen: Sequence[float] = (), band: Band | None = None, reach: Sequence[float] = ()
) -> tuple[Bin, ...]:
    """Scores counted in bins of one width, from the bin of the least score to that of the greatest.

    The ends of a band are ends of bins where a width that fits allows it, so that no bin is half in the band.

    Args:
        values: what is counted, from 0 to 100.
        chosen: those of the values that have the other colour.
        band: from whose lower end bins are counted off.
        reach: numbers that the bins must reach as well.
    """
    if not values:
        return ()
    origin, span = (band[0], band[1] - band[0]) if band else (0.0, 0.0)
    low, high = (end([*values, *reach, *(band or ())]) for end in (min, max))

    def place(value: float, width: float) -> int:
        return math.floor((value - origin) / width)

    fitting = [width for width in BIN_WIDTHS if place(high, width) - place(low, width) < MOST_BINS]
    width = next((width for width in fitting if span % width == 0), fitting[0])
    first = place(low, width)
    # The greatest value opens no bin of its own when it is the end of one.
    last = max(first, math.ceil((high - origin) / width) - 1)
    counts, of_chosen = ([0] * (last - first + 1) for _ in range(2))
    for numbers, tally in ((values, counts), (chosen, of_chosen)):
        for number in numbers:
            tally[min(place(number, width), last) - first] += 1
    edges = [min(max(origin + width * edge, LOWEST), HIGHEST) for edge in range(first, last + 2)]
    return tuple(Bin(*one) for one in zip(edges, edges[1:], counts, of_chosen, strict=False))


def histogram(
    values: Sequence[float],
    chosen: Sequence[float],
    band: Band | None,
    description: str,
    reach: Sequence[float] = (),
    noun: str = "frames",
    width: int = 520,
    height: int = 250,
) -> Markup:
    """A histogram; each bin names its count when pointed at.

    Args:
        values: scores from 0 to 100.
        chosen: those of the values that are drawn in colour over the others.
        band: ends between which the ground is marked.
        description: what is drawn, in words, for those who do not see it.
        reach: numbers that the axis must reach, so that histograms side by side have one axis.
        noun: what a value is of, in the plural.
        width: in SVG units.
        height: in SVG units.
    """
    counted = bins(values, chosen, band, reach)
    if not counted:
        return Markup(
            '<svg class="chart" viewBox="0 0 {0} {1}" role="img" aria-label="{2}: nothing to count">'
            '<text class="nothing" x="{3}" y="{4}" text-anchor="middle">nothing to count</text></svg>'
        ).format(width, height, description, width / 2, height / 2)
    marks = [mark for mark in ticks(0.0, max(one.count for one in counted)) if mark == int(mark)]
    frame = _Frame(width, height, counted[0].low, counted[-1].high, marks[-1])
    parts = [_band(frame, band)] if band else []
    parts += [_grid(frame, marks), *(_bar(frame, one, noun, bool(chosen)) for one in counted)]
    return Markup('<svg class="chart histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, description, Markup("").join(parts)
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """The drawing area and the mapping from (value, count) to SVG units."""

    width: float
    height: float
    low: float
    high: float
    most: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (self.width - LEFT - RIGHT)

    def y(self, count: float) -> float:
        return self.height - BOTTOM - count / self.most * (self.height - TOP - BOTTOM)


def _band(frame: _Frame, band: Band) -> Markup:
    left, right = (frame.x(end) for end in band)
    return Markup(
        '<rect class="band" x="{0:.1f}" y="{1}" width="{2:.1f}" height="{3}"/>'
        '<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{4}"/>'
        '<line class="limit" x1="{5:.1f}" x2="{5:.1f}" y1="{1}" y2="{4}"/>'
    ).format(left, TOP, right - left, frame.height - TOP - BOTTOM, frame.height - BOTTOM, right)


def _grid(frame: _Frame, marks: Sequence[float]) -> Markup:
    rows = [
        Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
            '<text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5:,.0f}</text>'
        ).format(LEFT, frame.width - RIGHT, frame.y(mark), LEFT - 8, frame.y(mark) + 4, mark)
        for mark in marks
    ]
    columns = [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            frame.x(mark), frame.height - 10, fixed_tick(mark)
        )
        for mark in ticks(frame.low, frame.high)
        if frame.low <= mark <= frame.high
    ]
    return Markup("").join([*rows, *columns])


def _bar(frame: _Frame, one: Bin, noun: str, coloured: bool) -> Markup:
    left, right = frame.x(one.low) + 0.7, frame.x(one.high) - 0.7

    def rect(style: str, count: int) -> Markup:
        top = frame.y(count)
        return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
            style, left, top, right - left, frame.height - BOTTOM - top
        )

    said = f", {one.chosen:,} chosen" if coloured else ""
    title = f"{fixed_tick(one.low)} to {fixed_tick(one.high)}: {one.count:,} {noun}{said}"
    bars = [rect("all", one.count)] + ([rect("chosen", one.chosen)] if one.chosen else [])
    return Markup("<g>{}<title>{}</title></g>").format(Markup("").join(bars), title)
