"""A benchmark in parts: each has a folder of its own, and what was found so far is printed before the next one runs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Work = Callable[[Path], dict[str, Any]]


def measure_parts(parser: argparse.ArgumentParser, parts: str, works: Mapping[str, Work]) -> None:
    """Do the named parts, and print all figures as one JSON object.

    Args:
        parser: says what is wrong with `--parts`.
        parts: their names, with commas between.
        works: each part's work, which is handed its folder.
    """
    names = parts.split(",")
    if unknown := sorted(set(names) - set(works)):
        parser.error(f"--parts: there is no {unknown[0]!r}, only {', '.join(works)}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            root = Path(folder, name)
            root.mkdir()
            figures |= works[name](root)
            print(json.dumps(figures), file=sys.stderr, flush=True)
    print(json.dumps(figures))
