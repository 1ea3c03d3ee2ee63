"""`prepare_data.py corrupt`: a copy of an image tree for each of DriveBench's corruptions."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from data.corruptions.corruption import CORRUPTION_NAMES, CORRUPTIONS, corruption_named

SHOWN_FAULTS = 3


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of the command."""
    parser.add_argument("source", type=Path, help="folder with samples/CAM_*/*.jpg, or with CAM_*/*.jpg")
    parser.add_argument("target", type=Path, help="folder to write NAME/CAM_*/*.jpg and NAME/manifest.json to")
    parser.add_argument("--corruption", required=True, help=f"all, or one of {', '.join(CORRUPTION_NAMES)}")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default: 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--strict", action="store_true", help="stop at the first source image that cannot be used")


def run(options: argparse.Namespace) -> int:
    """Write the copies; the exit code.

    Raises:
        DataError: the source has no images, or a target folder holds another copy.
    """
    from data.corruptions.copy import corrupt_tree  # its libraries take seconds to import

    named = CORRUPTIONS if options.corruption == "all" else (corruption_named(options.corruption),)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    copies = []
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        for copy in corrupt_tree(
            options.source,
            options.target,
            named,
            options.seed,
            workers=options.workers,
            strict=options.strict,
            progress=progress,
        ):
            copies.append(copy)
    faults = {file: why for copy in copies for file, why in copy.manifest["faults"].items()}
    for why in list(faults.values())[:SHOWN_FAULTS]:
        console.print(f"left out: {why}", markup=False, soft_wrap=True)
    if len(faults) > SHOWN_FAULTS:
        console.print(f"{len(faults) - SHOWN_FAULTS} more are listed in {copies[0].folder.parent}/*/manifest.json")
    reported = {
        copy.folder.name: copy.manifest["counts"] | {"written": copy.written, "kept": copy.kept} for copy in copies
    }
    print(json.dumps({"seed": options.seed, "target": str(options.target), "corruptions": reported}))
    return 0
