"""The runs below `run.root`: a list, and each with its curves while it goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response

from actors.record.run_folder import is_in_use
from evaluation.comparison.before_after import AFTER, BEFORE
from evaluation.pages.page import REPORT_FILE
from evaluation.pages.panels import benchmark_panels, health_panels, training_panels
from evaluation.run_list import TAGS_FILE, RunLine, line_of, runs_in
from evaluation.run_record import METRICS_FILE, POLICY_FOLDER, evaluation_path, read_run
from serve.errors import ServiceError
from serve.pages.places import own_run
from serve.pages.visit import Visit, reads

router = APIRouter()
PAGE = 15
KEPT = 2000
_lines: dict[tuple[str, bool], tuple[tuple[int, ...], RunLine]] = {}
_turn = threading.Lock()


@router.get("/pages/runs")
def runs(visit: Annotated[Visit, reads()]) -> Response:
    """The runs by name."""
    allowed = may_see_runs(visit)
    after = visit.query("after")
    folders = runs_in(visit.site.root) if allowed else []
    shown = [folder for folder in folders if after is None or folder.name > after]
    lines = [_line(folder) for folder in shown[:PAGE]]
    further = shown[PAGE - 1].name if len(shown) > PAGE else None
    return visit.page("runs.html.j2", runs=lines, further=further, total=len(folders), allowed=allowed)


@router.get("/pages/runs/{name}")
def run(visit: Annotated[Visit, reads()], name: str) -> Response:
    """A run."""
    folder = seen_run(visit, name)
    return visit.page("run.html.j2", line=_line(folder), name=folder.name)


@router.get("/pages/runs/{name}/curves")
def curves(visit: Annotated[Visit, reads()], name: str) -> Response:
    """The part of a run's page that renews itself: where it stands, alarms, curves."""
    return curves_page(visit, seen_run(visit, name))


def curves_page(visit: Visit, folder: Path) -> Response:
    """Where a run stands, alarms, curves."""
    record = read_run(folder, whatever_is_there=True)
    small = [*health_panels(record), *benchmark_panels(record)]
    return visit.page("curves.html.j2", line=_line(folder), panels=training_panels(record), small=small,
                      alarms=record.alarms[-10:], unread=record.unread)  # fmt: skip


def may_see_runs(visit: Visit) -> bool:
    """Whether this tenant sees the runs of the root."""
    named = visit.site.settings.pages.runs_of
    return not named or visit.who.tenant in named


def seen_run(visit: Visit, name: str) -> Path:
    """A run that this tenant may see.

    Raises:
        ServiceError: 404.
    """
    if not may_see_runs(visit):
        raise ServiceError(404, f"There is no run {name[:100]!r}.", "no_run")
    return own_run(visit.site.root, name)


def _line(folder: Path) -> RunLine:
    """What is worth a line about a run, kept until one of its files changes."""
    in_use = is_in_use(folder)
    evaluations = [evaluation_path(folder, name) for name in (BEFORE, AFTER)]
    files = [folder / name for name in (METRICS_FILE, POLICY_FOLDER, REPORT_FILE, TAGS_FILE)]
    state = tuple(_changed(path) for path in (*files, *evaluations))
    key = (str(folder), in_use)
    with _turn:
        kept = _lines.get(key)
        if kept is not None and kept[0] == state:
            return kept[1]
    try:
        line = line_of(folder, in_use=in_use)
    except (OSError, ValueError, TypeError) as error:  # an odd file in one run must not hide the others
        why = f"{type(error).__name__}: {error}"
        line = RunLine(folder.name, folder, "unreadable", 0, 0, None, None, {}, "", 0, (), (why,))
    with _turn:
        if len(_lines) >= KEPT:
            _lines.clear()
        _lines[key] = (state, line)
    return line


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
