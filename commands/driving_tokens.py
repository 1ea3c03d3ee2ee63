"""Bins for waypoints and codebooks for motions, fitted once on a training set and kept with the models.

python -m commands.driving_tokens trajectory OUT.json --annotations v1.0-trainval [--spacing quantile]
python -m commands.driving_tokens actions OUT.json --drives 40 [--codes 2048]
python -m commands.driving_tokens actions OUT.json --records drives.jsonl [--codes 2048]

Records are JSON lines, one a drive: {"rows": [{"time": 0.0, "x": 0, "y": 0, "yaw": 0, "steer": 0, "throttle": 0.4,
"brake": 0}, ...]} in metres, radians counter-clockwise and shares of a pedal. The last tenth is held out and tells
what is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from data.driving.demonstrations import driven_segments
from data.driving.families import FAMILIES
from data.episode import SHOWN, Start
from data.errors import DataError
from data.faults import Faults
from data.formats.nuscenes import read_trajectories
from data.text_file import read_lines
from data.tokens.bins import BINS, Bins
from data.tokens.codebook import CODES, Codebook
from data.tokens.segments import Segment, cut


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, write, and say what is lost; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    bins = kinds.add_parser("trajectory", help="bins of nuScenes waypoints")
    bins.add_argument("out", type=Path)
    bins.add_argument(
        "--annotations", type=Path, required=True, help="folder of nuScenes tables, or prepared waypoints"
    )
    bins.add_argument("--bins", type=int, default=BINS, help="bins of each axis")
    bins.add_argument("--spacing", choices=("uniform", "quantile"), default="uniform")
    codes = kinds.add_parser("actions", help="a codebook of motions")
    codes.add_argument("out", type=Path)
    codes.add_argument("--records", type=Path, help="JSON lines of drives; without, the embedded world's expert drives")
    codes.add_argument("--drives", type=int, default=40, help="scenarios of each family that the expert drives")
    codes.add_argument("--codes", type=int, default=CODES)
    codes.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        found = _fit_bins(given) if given.kind == "trajectory" else _fit_codes(given)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


def _fit_bins(given: argparse.Namespace) -> dict[str, object]:
    if given.bins < 2:
        raise DataError(f"--bins must be at least 2, got {given.bins}")
    samples = read_trajectories(given.annotations, None, Faults())
    trajectories = [sample.trajectory for sample in samples if sample.trajectory is not None]
    bins, left_out = Bins.fit(trajectories, given.bins, given.spacing)
    about = {
        "fitted_on": given.annotations.name,
        "trajectories": len(trajectories) - sum(left_out.values()),
        "left_out": left_out,
        "error_m": round(bins.error_m(trajectories), 4),
    }
    bins.write(given.out, about)
    return {"file": str(given.out), "hash": bins.hash, **about}


def _fit_codes(given: argparse.Namespace) -> dict[str, object]:
    if given.codes < 2 or given.drives < 2:
        raise DataError("--codes and --drives must be at least 2")
    segments, left_out = read_records(given.records) if given.records else (expert_segments(given.drives), {})
    held_out = segments[len(segments) * 9 // 10 :]
    book, more = Codebook.fit(segments[: len(segments) * 9 // 10], given.codes, given.seed)
    about = {
        "fitted_on": str(given.records.name) if given.records else "the expert of the embedded world",
        "segments": len(segments) - len(held_out) - sum(more.values()),
        "left_out": left_out | more,
        "held_out": {name: round(value, 4) for name, value in asdict(book.errors(held_out)).items()},
    }
    book.write(given.out, about)
    return {"file": str(given.out), "hash": book.hash, "codes": len(book.codes), **about}


def expert_segments(drives: int, first: int = SHOWN) -> list[Segment]:
    """The motions that the embedded world's expert means, over `drives` scenarios of every family."""
    starts = (Start(family, first + number) for number in range(drives) for family in FAMILIES)
    return [segment for start in starts for segment in driven_segments(start)]


def read_records(path: Path) -> tuple[list[Segment], dict[str, int]]:
    """The segments of recorded drives, and what was left out, by reason.

    Raises:
        DataError: the file is missing, or a line is no drive.
    """
    if not path.is_file():
        raise DataError(f"--records {path} does not exist or is not a file")
    drives = []
    for number, line in read_lines(path):
        try:
            rows = json.loads(line)["rows"]
            drives.append([{name: float(value) for name, value in row.items()} for row in rows])
            absent = {"time", "x", "y", "yaw"} - set.intersection(*(set(row) for row in rows))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} line {number} is no drive ({type(error).__name__}: {error})") from None
        if absent:
            raise DataError(f"{path} line {number}: its rows lack {', '.join(sorted(absent))}")
    return cut(drives)


if __name__ == "__main__":
    sys.exit(main())
