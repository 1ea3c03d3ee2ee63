"""`evaluate.py bench2drive`: the leaderboard's four figures from its result JSON. Asks no model; no torch, no ray."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.json_stream import outermost, small_value
from evaluation import bench2drive
from evaluation.bench2drive import ROUTES, Motion, read_motion
from evaluation.file_scoring import add_strict, fault_counts, fault_notes
from evaluation.numbers import fixed
from evaluation.published import BENCH2DRIVE
from evaluation.suite import Judgements, Scored, Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The suite's part of the command line."""
    parser.add_argument("--result", type=Path, required=True, help="the leaderboard's result JSON, all routes merged")
    parser.add_argument(
        "--motions", type=Path, help="folder of ROUTE/metric_info.json (save_name or route_id): comfort"
    )
    parser.add_argument("--routes", type=int, default=ROUTES, help=f"how many routes there are (default: {ROUTES})")
    add_strict(parser)


def score(options: argparse.Namespace, judgements: Judgements | None = None) -> Scored:
    """Score the leaderboard's result.

    Raises:
        DataError: a file cannot be used, or, with `--strict`, has a fault.
    """
    if options.routes < 1:
        raise DataError(f"--routes must be at least 1, got {options.routes}")
    tree = _object(options.result, "--result")
    motions = _motions(tree, options.motions) if options.motions else None
    result = bench2drive.score(tree, strict=options.strict, motions=motions, count=options.routes)
    four = (result.driving_score, result.success_rate, result.efficiency, result.comfort)
    return Scored(
        result=result,
        rows=(
            ("routes", f"{result.routes:,}"),
            ("driving score", fixed(result.driving_score, 2)),
            ("success rate (%)", fixed(result.success_rate, 2)),
            ("efficiency (%)", fixed(result.efficiency, 2)),
            ("comfort, as published (%)", fixed(result.comfort, 2)),
            ("comfort, mended (%)", fixed(result.comfort_mended, 2)),
        ),
        told=asdict(result),
        figures=dict(zip(("driving_score", "success_rate", "efficiency", "comfort"), four, strict=True)),
        tables=(
            Table(
                "Bench2Drive",
                ("Driving score", "Success rate (%)", "Efficiency (%)", "Comfort (%)"),
                (("this run", four),),
                BENCH2DRIVE,
            ),
        ),
        faults=fault_counts(result),
        notes=fault_notes(result),
    )


def _object(path: Path, option: str) -> dict[str, Any]:
    if outermost(path, option) != "object":
        raise DataError(f"{option} {path} holds no JSON object")
    tree: dict[str, Any] = small_value(path)
    return tree


def _motions(tree: Mapping[str, Any], folder: Path) -> dict[str, Motion]:
    """Motion by route id, of the routes whose folder has a `metric_info.json`; the others are listed by the score."""
    if not folder.is_dir():
        raise DataError(f"--motions {folder} does not exist or is not a folder")
    checkpoint = tree.get("_checkpoint")
    records = checkpoint.get("records") if isinstance(checkpoint, dict) else None
    found: dict[str, Motion] = {}
    for record in records if isinstance(records, list) else ():
        route = record.get("route_id") if isinstance(record, dict) else None
        file = folder / str(record.get("save_name") or route) / "metric_info.json" if isinstance(route, str) else None
        if isinstance(route, str) and file is not None and file.is_file():
            try:
                found[route] = read_motion(_object(file, "--motions"))
            except DataError as error:
                raise DataError(f"{file}: {error}") from None
    return found
