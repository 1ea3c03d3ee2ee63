"""The page of a simulation: figures, and who did what in the first steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.simulation.learning import LEARNING, SAVING
from cluster.simulation.run import Simulated
from cluster.simulation.serving import GENERATING, JUDGING, SYNC
from cluster.simulation.timeline import Row
from cluster.simulation.world import SWAPPING
from evaluation.numbers import counted_noun
from evaluation.pages.gantt import Bar, GanttRow, Mark, gantt
from evaluation.pages.page import Tile, write_page

TEMPLATE = "simulation.html.j2"
SHOWN_STEPS = 4
MOST_ROWS = {GENERATING: 6, JUDGING: 3, LEARNING: 4}
STYLES = {
    GENERATING: "series-1", JUDGING: "series-4", LEARNING: "series-3", SYNC: "series-2", SAVING: "series-6",
    SWAPPING: "series-5",
}  # fmt: skip
METHOD = (
    "The real loop, experience, pools, supervisors, weight sync and updates ran in one process against stand-ins for "
    "engines, judges and learner ranks, on a clock that jumps to what is due next. A stand-in takes as long as the "
    "plan's arithmetic says for what it is asked; lengths of responses and replies are drawn anew each time."
)
COLUMNS = ("step", "hours", "USD", "engines", "judges", "learners", "score, p99", "staleness")


def write_simulation_page(path: Path, name: str, found: Sequence[Simulated]) -> Path:
    """Write the page of some simulations of a recipe; its path."""
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = [one.as_dict() for one in found]
    context = {
        "name": name,
        "headline": _headline(figures),
        "method": METHOD,
        "parts": [_part(one, own) for one, own in zip(found, figures, strict=True)],
        "columns": COLUMNS,
        "rows": [(own["gpus"], _cells(own)) for own in figures],
    }
    return write_page(path.parent, TEMPLATE, context, path.name)


def _headline(figures: Sequence[dict[str, Any]]) -> str:
    parts = [f"{one['hours']:.1f} hours on {one['gpus']} GPUs" for one in figures]
    return f"{', '.join(parts)}, by {figures[0]['simulated_steps']} simulated steps each."


def _cells(own: dict[str, Any]) -> list[str]:
    busy = [f"{own['busy'].get(kind, 0.0):.0%} at work" for kind in (GENERATING, JUDGING, LEARNING)]
    return [
        f"{own['step_s']:.0f} s",
        f"{own['hours']:.1f}",
        f"{own['cost']:,}",
        *busy,
        f"{own['score_wait_s_p99']:.0f} s",
        f"{own['staleness_mean']:g}",
    ]


def _part(one: Simulated, own: dict[str, Any]) -> dict[str, Any]:
    ends, at = list[float](), 0.0
    for step in one.steps:
        at += step["step_s"]
        ends.append(at)
    seconds = ends[min(SHOWN_STEPS, len(ends)) - 1] * 1.02
    shown, hidden = _rows(one)
    rows = [GanttRow(row.name, _bars(row, one.began_at)) for row in shown]
    marks = [Mark(end, f"step {number} ends") for number, end in enumerate(ends, 1)]
    losses = [(moment - one.began_at, what) for moment, what in one.timeline.losses if moment > one.began_at]
    marks += [Mark(moment, what, bad=True) for moment, what in losses]
    kinds = {span.kind for row in shown for span in row.spans}
    return {
        "title": f"{own['gpus']} GPUs",
        "line": (
            f"{counted_noun(own['learner_ranks'], 'learner rank')}, {counted_noun(own['engines'], 'engine')} and "
            f"{counted_noun(own['judges'], 'judge')}; {counted_noun(own['prompts_per_step'], 'prompt')} a step, "
            f"{counted_noun(own['run_steps'], 'step')}. The picture shows the first "
            f"{min(SHOWN_STEPS, len(ends))}; the means leave out the first two, in which the pipeline fills."
        ),
        "tiles": _tiles(own),
        "picture": gantt(f"What processes did in the first steps on {own['gpus']} GPUs", rows, marks, seconds),
        "legend": [(style, kind) for kind, style in STYLES.items() if kind in kinds],
        "hidden": hidden,
        "facts": _facts(own),
        "losses": [(f"after {moment:.0f} s", what) for moment, what in losses],
    }


def _rows(one: Simulated) -> tuple[list[Row], str]:
    shown, left_out = list[Row](), list[str]()
    for kind, most in MOST_ROWS.items():
        rows = one.timeline.of(kind)
        shown += rows[:most]
        if len(rows) > most:
            left_out.append(f"{len(rows) - most} more {rows[0].name.rpartition(' ')[0]}s")
    return shown, f"Not drawn: {', '.join(left_out)}." if left_out else ""


def _bars(row: Row, began_at: float) -> list[Bar]:
    spans = sorted(row.spans, key=lambda span: span.kind == SYNC)  # drawn over what goes on meanwhile
    return [Bar(one.began - began_at, one.ended - began_at, one.kind, STYLES[one.kind]) for one in spans]


def _tiles(own: dict[str, Any]) -> list[Tile]:
    oldest = counted_noun(round(own["staleness_max"]), "version")
    return [
        Tile("A step", f"{own['step_s']:.0f} s", f"{own['predicted_step_s']:.0f} s by the plan"),
        Tile("The run", f"{own['hours']:.1f} h", f"{own['cost']:,} USD"),
        Tile("Learners at work", f"{own['busy'].get(LEARNING, 0.0):.0%}", "of the time, on average"),
        Tile("Engines at work", f"{own['busy'].get(GENERATING, 0.0):.0%}", "with at least one response"),
        Tile(
            "Until a score", f"{own['score_wait_s_median']:.0f} s", f"99th percentile {own['score_wait_s_p99']:.0f} s"
        ),
        Tile("Staleness", f"{own['staleness_mean']:g}", f"at most {oldest}"),
    ]


def _facts(own: dict[str, Any]) -> list[tuple[str, str]]:
    queues = own["queues"]
    return [
        ("Most that waited for an engine", f"{queues['engines']:,} responses"),
        ("Most that waited for a judge", f"{queues['judges']:,} responses"),
        ("Lost, asked again", f"{own['losses']}, {own['retried']:,.0f} requests"),
        ("Learner begun anew", f"{own['learner_restarts']:.0f} times"),
        ("Driver's CPU", f"{own['driver_cpu_share']:.1%} of the simulated time, with the stand-ins'"),
        ("Simulated", f"{own['simulated_s']:,} s in {own['wall_s']:.0f} s"),
    ]
