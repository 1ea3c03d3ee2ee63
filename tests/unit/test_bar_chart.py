"""Bar charts: heights to scale, gaps for what there is not, labels that can be read, no name that becomes markup."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.formats.bdd_oia_words import REASONS
from data.sample import TASKS
from evaluation.pages.bar_chart import WIDTHS, bar_chart, is_wide, series_style
from evaluation.suites.suite import Bars


@dataclass(frozen=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    title: str


def rects(bars: Bars) -> list[Rect]:
    found = re.findall(
        r'<rect x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"><title>(.+?)</title></rect>', bar_chart(bars)
    )
    return [Rect(float(x), float(y), float(width), float(height), title) for x, y, width, height, title in found]


def two_series(*values: tuple[float | None, float | None], highest: float | None = None) -> Bars:
    first, second = zip(*values, strict=True)
    groups = tuple(f"group {number}" for number in range(len(values)))
    return Bars("Shares", "%", groups, (("annotated", first), ("answered", second)), highest)


def test_a_bar_is_as_high_as_its_share_of_the_axis() -> None:
    half, quarter = rects(two_series((50.0, 25.0), highest=100.0))
    assert (half.height, quarter.height) == (100.0, 50.0)
    assert half.y + half.height == quarter.y + quarter.height
    assert [half.title, quarter.title] == ["group 0, annotated: 50", "group 0, answered: 25"]


def test_a_missing_value_leaves_a_gap_and_a_zero_a_line() -> None:
    drawn = rects(two_series((None, 40.0), (10.0, 0.0), (float("nan"), 20.0)))
    assert [bar.title for bar in drawn] == [
        "group 1, annotated: 10",
        "group 0, answered: 40",
        "group 1, answered: 0",
        "group 2, answered: 20",
    ]
    full = rects(two_series((1.0, 40.0), (10.0, 0.0), (1.0, 20.0)))
    assert [(bar.x, bar.y) for bar in drawn[1:]] == [(bar.x, bar.y) for bar in full[3:]]
    assert drawn[2].height == 1.0


def test_a_negative_value_hangs_below_the_axis() -> None:
    up, down = rects(two_series((10.0, -5.0)))
    assert down.y == pytest.approx(up.y + up.height, abs=0.1)
    assert down.height == pytest.approx(up.height / 2, abs=0.1)


def test_the_axis_reaches_what_lies_above_its_end() -> None:
    over, full = rects(two_series((125.0, 100.0), highest=100.0))
    assert over.height == pytest.approx(1.25 * full.height, abs=0.1)
    assert over.y >= 34.0


def test_bars_of_one_group_stand_side_by_side() -> None:
    groups = tuple(str(number) for number in range(17))
    bars = Bars("Score", "0–100", groups, tuple((task, (50.0,) * 17) for task in TASKS), 100.0)
    drawn = sorted(rects(bars), key=lambda bar: bar.x)
    assert len(drawn) == 68
    assert all(left.x + left.width < right.x for left, right in zip(drawn, drawn[1:], strict=False))
    assert drawn[0].x >= 46
    assert drawn[-1].x + drawn[-1].width <= WIDTHS[1]
    assert [bar.title for bar in drawn[:4]] == [f"0, {task}: 50" for task in TASKS]


def test_many_bars_take_the_whole_width() -> None:
    assert not is_wide(two_series((1.0, 1.0), (1.0, 1.0)))
    assert is_wide(two_series(*[(1.0, 1.0)] * 17))


def test_short_labels_lie_flat_and_long_ones_are_turned() -> None:
    flat = bar_chart(Bars("F1", "%", ("Move forward", "Stop/slow down"), (("F1", (1.0, 2.0)),)))
    assert "rotate" not in flat
    names = tuple(reason.text for reason in REASONS)
    turned = bar_chart(Bars("F1", "%", names, (("F1", (1.0,) * 21),)))
    assert turned.count("rotate(-40") == 21
    assert all(f"<title>{name}</title>" in turned for name in names)


def test_a_label_of_several_words_is_wrapped_before_it_is_turned() -> None:
    svg = bar_chart(Bars("F1", "%", tuple("solid line on the left" for _ in range(6)), (("F1", (1.0,) * 6),)))
    assert "rotate" not in svg
    assert svg.count("<tspan") > 6


def test_turned_labels_stay_within_the_drawing() -> None:
    name = "a name of a reason that goes on and on without an end"
    svg = bar_chart(Bars("F1", "%", (name,) * 21, (("F1", (1.0,) * 21),)))
    found = re.search(r'viewBox="0 0 \d+ (\d+)"', svg)
    assert found is not None
    height = float(found[1])
    x, y = map(float, re.findall(r'class="group" x="(.+?)" y="(.+?)"', svg)[0])
    length = 36 * 6.0  # of a letter in a common font at 12 px
    assert x - length * math.cos(math.radians(40)) >= 0
    assert y + length * math.sin(math.radians(40)) <= height
    assert set(re.findall(r"<tspan.*?>(.+?)</tspan>", svg)) == {"a name of a reason that goes on and…"}
    assert svg.count(f"<title>{name}</title>") == 21


def test_the_values_of_a_chart_share_their_decimals() -> None:
    svg = bar_chart(two_series((66.0, 58.25), (5.0, 0.125)))
    assert re.findall(r'class="value".*?>(.+?)<', svg) == ["66.0", "5.0", "58.2", "0.1"]
    assert re.findall(r'class="value".*?>(.+?)<', bar_chart(two_series((1200.0, 3.0)))) == ["1200", "3"]


def test_tasks_keep_their_own_colours() -> None:
    tasks = Bars("Score", "", ("a",), (("planning", (1.0,)), ("behavior", (1.0,))))
    assert [series_style(tasks, number) for number in range(2)] == ["planning", "behavior"]
    others = Bars("Score", "", ("a",), (("planning", (1.0,)), ("GPT-4o", (1.0,))))
    assert [series_style(others, number) for number in range(2)] == ["series-1", "series-2"]


@pytest.mark.parametrize("bars", [Bars("Empty", "%", (), ()), Bars("Empty", "%", ("a",), (("F1", (None,)),))])
def test_a_chart_without_figures_says_so(bars: Bars) -> None:
    svg = bar_chart(bars)
    assert "no figures" in svg
    assert "<rect" not in svg


def test_no_name_becomes_markup() -> None:
    name = '<script>"x"</script>'
    svg = bar_chart(Bars(name, name, (name,), ((name, (1.0,)),)))
    assert "<script" not in svg
    assert svg.count("&lt;script&gt;") == 8  # label, axis, bar and group, each as it is read and as it is seen


values = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("inf")))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=21), st.sampled_from([None, 0.0, 1.0, 100.0]))
def test_any_figures_are_drawn_within_the_frame(
    rows: list[tuple[float | None, float | None]], highest: float | None
) -> None:
    bars = two_series(*rows, highest=highest)
    svg = bar_chart(bars)
    assert "nan" not in svg
    assert "inf" not in svg
    known = [value for row in rows for value in row if value is not None and math.isfinite(value)]
    drawn = rects(bars)
    assert len(drawn) == len(known)
    assert all(bar.y >= 32.9 and bar.y + bar.height <= 235.1 for bar in drawn)
