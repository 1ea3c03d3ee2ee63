"""The page of a sweep: what each setting reached over its seeds, with links to the reports of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.pages.page import write_page
from evaluation.seeds import Figure

TEMPLATE = "sweep_page.html.j2"
PAGE_FILE = "sweep.html"
RENEWED_S = 30


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of a sweep."""

    name: str
    figures: Mapping[str, Figure]
    """By column."""
    reports: Sequence[tuple[str, str]]
    """Seed and link of every run that is finished."""


def write_sweep_page(
    folder: Path,
    name: str,
    points: Sequence[Point],
    columns: Sequence[str],
    seeds: Sequence[int],
    unfinished: Sequence[tuple[str, str]],
    *,
    goes_on: bool,
) -> Path:
    """Write `sweep.html` into the folder of a sweep and return its path.

    Args:
        folder: of the sweep.
        name: what it is called.
        points: what is known of each setting, in their order.
        columns: of the table.
        seeds: with which each setting is run.
        unfinished: a run, and how it stands.
        goes_on: more runs will follow, so that the page is loaded again.
    """
    means = [(point.figures["mean"], point.name) for point in points if "mean" in point.figures]
    known = sorted(
        ((one["mean"], one["half_width"], name) for one, name in means if one["mean"] is not None), key=_first
    )
    best = known[-1] if known else None
    context = {
        "name": name,
        "points": points,
        "columns": columns,
        "seeds": seeds,
        "done": sum(len(point.reports) for point in points),
        "planned": len(points) * len(seeds),
        "best": best[2] if best and len(known) > 1 else "",
        "undecided": len(known) > 1 and _overlap(known[-1][:2], known[-2][:2]),
        "counted": unfinished,
        "renewed_s": RENEWED_S if goes_on else 0,
    }
    return write_page(folder, TEMPLATE, context, PAGE_FILE)


def _first(one: tuple[float | None, float | None, str]) -> float:
    return one[0] or 0.0


def _overlap(high: tuple[float | None, float | None], low: tuple[float | None, float | None]) -> bool:
    """Whether two intervals have a value in common; of a single seed nobody knows, so that they may."""
    if high[1] is None or low[1] is None:
        return True
    return (high[0] or 0.0) - high[1] <= (low[0] or 0.0) + low[1]
