"""`prepare_data.py convert`: any dataset as JSONL of samples."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

from rich.console import Console

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.registry import FORMATS, read_source
from data.jsonl import write_jsonl
from data.source_arguments import add_source_arguments, counts, show_notes, source_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    formats = [name for name in FORMATS if name != "jsonl"]
    parser.add_argument("source", choices=formats, metavar="FORMAT", help=", ".join(formats))
    parser.add_argument("annotations", type=Path, metavar="SRC", help="annotation file, or folder, of that format")
    parser.add_argument("target", type=Path, metavar="DST", help="JSONL file to write; image paths relative to it")
    add_source_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Convert; the exit code.

    Raises:
        DataError: the source cannot be read, holds nothing usable, or the target exists.
    """
    if options.target.exists():
        raise DataError(f"{options.target} exists already: give another name, or delete it")
    faults = Faults(options.strict)
    images = options.target.parent / f"{options.target.stem}-images"
    samples = read_source(source_settings(options), images, faults)
    first = next(samples, None)
    if first is None:
        raise DataError(f"{options.annotations} holds no usable question{first_note(faults)}")
    written = write_jsonl(options.target, itertools.chain([first], samples))
    show_notes(Console(stderr=True), faults, options.faults)
    print(json.dumps({"target": str(options.target), "samples": written, **counts(faults)}))
    return 0
