"""Where a run's time went: writes a trace that https://ui.perfetto.dev and Chrome's `chrome://tracing` open.

    python -m commands.trace runs/mine                       # runs/mine/trace.json
    python -m commands.trace runs/mine --steps 3-5 --output trace.json

A row for each response of each engine, and the learner's steps, updates and publishes beside them. It is made from what
every run keeps; a run that still goes can be traced too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from commands.script import guarded
from data.errors import DataError
from evaluation.trace import trace
from extension import at_home


def main(arguments: Sequence[str]) -> int:
    """Write the trace; the exit code. Input that must be mended is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.trace", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--steps", type=steps_of, default=(None, None), metavar="FIRST-LAST", help="only these steps")
    parser.add_argument("--output", type=Path, help="file to write (default: trace.json in the run's folder)")
    options = parser.parse_args([at_home(one) for one in arguments])
    if not options.run.is_dir():
        print(f"{options.run} is no folder: name the folder of a run", file=sys.stderr)
        return 2
    output: Path = options.output or options.run / "trace.json"
    try:
        found = trace(options.run, *options.steps)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    output.write_text(json.dumps(found))
    print(f"{output}: {len(found['traceEvents'])} events; open it in https://ui.perfetto.dev or chrome://tracing")
    return 0


def steps_of(given: str) -> tuple[int, int]:
    """`3-5`, or `3` alone."""
    if not (found := re.fullmatch(r"(\d+)(?:-(\d+))?", given)):
        raise argparse.ArgumentTypeError(f"{given!r} is not a range of steps such as 3-5")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise argparse.ArgumentTypeError(f"{given!r} ends before it begins")
    return first, last


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
