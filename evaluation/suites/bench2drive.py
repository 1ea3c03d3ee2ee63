"""`evaluate.py bench2drive`: the leaderboard's four figures from its result JSON. Asks no model; no torch, no ray."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

from pydantic import Field, model_validator

from data.errors import DataError
from data.faults import Faults
from data.json_stream import outermost, small_value
from data.text_file import read_text
from evaluation.metrics import bench2drive
from evaluation.metrics.bench2drive import ROUTES, Motion, read_motion
from evaluation.metrics.judging import Judgements
from evaluation.metrics.predictions import Predictions
from evaluation.numbers import fixed
from evaluation.suites.file_scoring import fault_counts, fault_notes
from evaluation.suites.published import BENCH2DRIVE
from evaluation.suites.suite import OptionError, Question, Scored, Suite, SuiteOptions, Table

UNSAID = "a release that --route-set does not name"
_RECORD_NAME = re.compile(r"RouteScenario_(?P<id>.+)_rep\d+")
"""What the leaderboard calls a route of the list in its records."""


class Bench2DriveOptions(SuiteOptions):
    """Its files, and how many routes there are."""

    result: Path
    """The leaderboard's result JSON, all routes merged."""
    motions: Path | None = None
    """Folder of ROUTE/metric_info.json (save_name or route_id): comfort."""
    routes: int = Field(ROUTES, ge=1)
    """How many routes there are."""
    route_set: Literal["0.0.3", "0.0.4"] | None = None
    """Which release's 220 routes were driven: 0.0.4 brought others, and the published rows are of the old ones; None:
    not said."""
    routes_file: Path | None = None
    """The list of routes, XML or one id a line: missing ones are named."""

    @model_validator(mode="after")
    def _routes_once(self) -> Bench2DriveOptions:
        if {"routes", "routes_file"} <= self.model_fields_set:
            raise ValueError("--routes and --routes-file exclude each other: give one")
        return self


@dataclass(frozen=True)
class Bench2Drive(Suite):
    """Scores what the leaderboard has measured. Routes without a record count as failed."""

    options: Bench2DriveOptions
    Options: ClassVar[type[SuiteOptions]] = Bench2DriveOptions
    title: ClassVar[str] = "Bench2Drive: the leaderboard's four figures"
    headline: ClassVar[tuple[str, ...]] = ()
    asks: ClassVar[bool] = False

    def questions(self, faults: Faults, folder: Path) -> tuple[Question, ...]:
        """None: the leaderboard drives."""
        return ()

    def score(self, predictions: Predictions, judgements: Judgements | None = None) -> Scored:
        """Score the leaderboard's result."""
        options = self.options
        tree = _object(options.result, "result")
        motions, unread = _motions(tree, options.motions, options.strict) if options.motions else (None, [])
        routes = _as_recorded(read_routes(options.routes_file), tree) if options.routes_file else None
        result = bench2drive.score(tree, routes, strict=options.strict, motions=motions, count=options.routes)
        four = (result.driving_score, result.success_rate, result.efficiency, result.comfort)
        return Scored(
            result=result,
            rows=(
                ("routes", f"{result.routes:,}"),
                ("route set", options.route_set or UNSAID),
                ("driving score", fixed(result.driving_score, 2)),
                ("success rate (%)", fixed(result.success_rate, 2)),
                ("efficiency (%)", fixed(result.efficiency, 2)),
                ("comfort, as published (%)", fixed(result.comfort, 2)),
                ("comfort, mended (%)", fixed(result.comfort_mended, 2)),
            ),
            reported=asdict(result) | {"route_set": options.route_set},
            figures=dict(zip(("driving_score", "success_rate", "efficiency", "comfort"), four, strict=True)),
            tables=(
                Table(
                    "Bench2Drive",
                    ("Driving score", "Success rate (%)", "Efficiency (%)", "Comfort (%)"),
                    ((f"this run, routes of {options.route_set or UNSAID}", four),),
                    BENCH2DRIVE,
                    "The papers drove 0.0.3's routes; a run on those of 0.0.4 stands beside them for no comparison.",
                ),
            ),
            faults=fault_counts(result),
            notes=(*unread, *fault_notes(result)),
        )


def read_routes(path: Path) -> list[str]:
    """The route ids of the leaderboard's XML (`<route id="...">`), or of a text file with one on every line.

    Raises:
        DataError: the file cannot be read, holds no route, a route without an id, or one twice.
    """
    try:
        text = read_text(path).strip()
        if text.startswith("<"):
            ids = [route.get("id", "").strip() for route in ElementTree.fromstring(text).iter("route")]
        else:
            ids = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise OptionError("routes_file", f"{path} is neither XML nor text with one route id a line: {error}") from None
    if not ids or "" in ids:
        raise OptionError("routes_file", f"{path} holds {'a route without an id' if ids else 'no route'}")
    twice = next((id_ for id_ in ids if ids.count(id_) > 1), None)
    if twice is not None:
        raise OptionError("routes_file", f"{path} lists route {twice} more than once")
    return ids


def _as_recorded(routes: list[str], tree: Mapping[str, Any]) -> list[str]:
    """The routes under the ids that their records have, those without a record under the list's own."""
    ids = [str(record.get("route_id")) for record in _records(tree)]
    recorded = {found["id"]: id_ for id_ in ids if (found := _RECORD_NAME.fullmatch(id_))}
    return [route if route in ids else recorded.get(route, route) for route in routes]


def _object(path: Path, option: str) -> dict[str, Any]:
    if outermost(path, f"--{option}") != "object":
        raise OptionError(option, f"{path} holds no JSON object")
    tree: dict[str, Any] = small_value(path)
    return tree


def _motions(tree: Mapping[str, Any], folder: Path, strict: bool) -> tuple[dict[str, Motion], list[str]]:
    """Motion by route id, of the routes whose folder has a `metric_info.json`; a sentence for each that is unusable.

    The score lists every route without motion.

    Raises:
        DataError: there is no such folder; with `strict`, a file in it is unusable.
    """
    if not folder.is_dir():
        raise OptionError("motions", f"{folder} does not exist or is not a folder")
    found: dict[str, Motion] = {}
    unread: list[str] = []
    for record in _records(tree):
        route = record.get("route_id")
        file = folder / str(record.get("save_name") or route) / "metric_info.json" if isinstance(route, str) else None
        if isinstance(route, str) and file is not None and file.is_file():
            try:
                found[route] = read_motion(_object(file, "motions"))
            except DataError as error:
                unread.append(f"{file}: {error}")
    if strict and unread:
        raise DataError(unread[0])
    return found, unread


def _records(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The routes' records that are objects; `score` lists the others, and refuses a file without records."""
    checkpoint = tree.get("_checkpoint")
    records = checkpoint.get("records") if isinstance(checkpoint, dict) else None
    return [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []
