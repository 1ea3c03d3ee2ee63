"""The page of two runs side by side: differences with their intervals, and the answers that changed most.

One self-contained file; its form is in `compare_page.html.j2`. No network, no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from evaluation.comparison.compared_run import ComparedRun
from evaluation.comparison.differences import SAME_WITHIN, Difference, Differences
from evaluation.comparison.paired import IN_WORDS, Pair, Pairing
from evaluation.held_out import AnswerRecord
from evaluation.numbers import counted_noun, fixed, fixed_tick, probability, signed
from evaluation.pages.gallery import Card, Changed, changed_most
from evaluation.pages.line_chart import ticks
from evaluation.pages.page import Tile, write_page
from evaluation.pages.tone import tone

TEMPLATE = "compare_page.html.j2"
CARDS_SHOWN = 6
"""How many questions are shown that gained most, and how many that lost most."""
MIDDLE, REACH = 100.0, 88.0
"""Where 0 lies in the drawing of an interval, and how far from it the longest whisker goes, in SVG units."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its name, the CSS class that colours it, and the figures."""

    title: str
    style: str
    figures: Difference


def write_comparison(
    path: Path,
    runs: tuple[ComparedRun, ComparedRun],
    pairing: Pairing,
    found: Differences,
    warning: str | None,
) -> Path:
    """Write the page and return its path.

    Raises:
        OSError: it cannot be written there.
    """
    changed = [_changed(pair) for pair in pairing.pairs if abs(pair.change) > SAME_WITHIN]
    gains, losses = changed_most(changed, CARDS_SHOWN)
    tasks = [Row(task.capitalize(), tone(task), of_task) for task, of_task in found.tasks.items()]
    settings = [Row(name.replace("_", " ") or "no setting", "", one) for name, one in found.settings.items()]
    several = len(tasks) > 1
    overall = [Row("Mean of the tasks", "", found.overall)] if several else []
    tables = [("By task", [*tasks, *overall])]
    tables += [("By setting, mean of the tasks" if several else "By setting", settings)] if settings else []
    context = {
        "a": runs[0],
        "b": runs[1],
        "warning": warning,
        "overall": found.overall,
        "several_tasks": several,
        "apart": _apart(found.overall),
        "measured": _measured(pairing.pairs),
        "tiles": _tiles(found.overall),
        "tables": tables,
        "reach": _reach([row.figures for _, rows in tables for row in rows]),
        "axis": interval_axis,
        "whiskers": whiskers,
        "probability": probability,
        "counted": _counted(pairing, found, [*gains, *losses]),
        "gains": gains,
        "losses": losses,
    }
    return write_page(path.parent, TEMPLATE, context, path.name, tasks=found.tasks)


def whiskers(one: Difference, reach: float) -> Markup:
    """A dot at the difference with whiskers over its interval, around a line at 0; `reach` is the end of the scale."""

    def place(value: float) -> float:
        return MIDDLE + REACH * value / reach

    apart = _apart(one)
    style = "level" if not apart else "up" if one.difference > 0 else "down"
    low, high = (one.difference, one.difference) if one.low is None or one.high is None else (one.low, one.high)
    said = signed(one.difference, 2) + (f", {_between(one)}" if one.low is not None else "")
    return Markup(
        '<svg class="whiskers {style}" viewBox="0 0 {width} 20" role="img" aria-label="{said}">'
        '<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="20"/>'
        '<path d="M{low:.1f},10H{high:.1f}M{low:.1f},6v8M{high:.1f},6v8"/><circle cx="{at:.1f}" cy="10" r="4.5"/>'
        "<title>{said}</title></svg>"
    ).format(
        style=style,
        width=2 * MIDDLE,
        middle=MIDDLE,
        low=place(low),
        high=place(high),
        at=place(one.difference),
        said=said,
    )


def interval_axis(reach: float) -> Markup:
    """The scale above the whiskers: its ends and 0."""
    labels = ((MIDDLE - REACH, f"−{fixed_tick(reach)}"), (MIDDLE, "0"), (MIDDLE + REACH, f"+{fixed_tick(reach)}"))
    texts = [Markup('<text x="{}" y="14" text-anchor="middle">{}</text>').format(x, label) for x, label in labels]
    return Markup('<svg class="whiskers axis" viewBox="0 0 {} 20" aria-hidden="true">{}</svg>').format(
        2 * MIDDLE, Markup("").join(texts)
    )


def _apart(one: Difference) -> bool:
    """Whether the interval leaves 0 out."""
    return one.low is not None and one.high is not None and (one.low > 0 or one.high < 0)


def _between(one: Difference) -> str:
    return f"95 % interval {signed(one.low, 2)} to {signed(one.high, 2)}"


def _reach(rows: Sequence[Difference]) -> float:
    """A round number that no difference and no end of an interval goes beyond."""
    ends = [abs(end) for one in rows for end in (one.difference, one.low, one.high) if end is not None]
    return ticks(0.0, max(ends))[-1]


def _measured(pairs: Sequence[Pair]) -> str:
    questions = len({pair.sample_id for pair in pairs})
    settings = len({pair.setting for pair in pairs})
    under = f" under {counted_noun(settings, 'setting')}" if settings > 1 else ""
    scenes = counted_noun(len({pair.scene_id for pair in pairs}), "scene")
    return f"Both answered {counted_noun(questions, 'question')}{under} about {scenes}."


def _tiles(overall: Difference) -> list[Tile]:
    def tile(label: str, number: int, note: str) -> Tile:
        return Tile(label, f"{number:,}", note)

    return [
        tile("Better", overall.better, "questions on which B is above A"),
        tile("Worse", overall.worse, "questions on which B is below A"),
        tile("Same", overall.same, f"within {SAME_WITHIN:g} of each other"),
        tile("Flips", overall.flips, "from below 50 to 50 or more, or back"),
    ]


def _changed(pair: Pair) -> Changed:
    return Changed(
        pair.change, (_shown("A", pair.setting, pair.a, pair.value_a), _shown("B", pair.setting, pair.b, pair.value_b))
    )


def _shown(side: str, setting: str, repeats: Sequence[AnswerRecord], mean: float) -> tuple[str, AnswerRecord]:
    """The repeat whose value is nearest to their mean, and the words above it."""
    shown = min(repeats, key=lambda answer: abs(answer.value - mean))
    words = [side, *([setting.replace("_", " ")] if setting else [])]
    if len(repeats) > 1:
        words.append(f"repeat {shown.repeat + 1} of {len(repeats)}, mean {fixed(mean)}")
    return " · ".join(words), shown


def _counted(pairing: Pairing, found: Differences, cards: Sequence[Card]) -> list[tuple[str, str]]:
    """What was left out, by name; silence would hide it."""
    counted = [(f"questions {IN_WORDS[reason]}", f"{number:,}") for reason, number in pairing.left_out.items()]
    undefined = found.overall.undefined_resamples
    counted += [("resamples in which a task had no question", f"{undefined:,}")] if undefined else []
    missing = sum(thumbnail.uri is None for card in cards for thumbnail in card.thumbnails)
    counted += [("images of this page that could not be read", str(missing))] if missing else []
    return counted
