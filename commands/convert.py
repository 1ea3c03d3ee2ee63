"""`prepare_data.py convert`: any dataset as JSONL of samples."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.format import FORMATS, UNKNOWN, Licence, format_class
from data.jsonl import write_jsonl
from data.source_arguments import (
    add_fault_arguments,
    add_format_arguments,
    counts,
    file_of,
    given_format,
    show_notes,
)


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of the command; those of the dataset that the first one names are its own.

    Raises:
        ExtensionError: there is no such dataset.
    """
    known = ", ".join(FORMATS)
    parser.add_argument("source", metavar="FORMAT", help=f"{known}, or module:Class; its options: FORMAT --help")
    if arguments and not arguments[0].startswith("-"):
        add_format_arguments(parser, format_class(arguments[0], "FORMAT"), "SRC")
    parser.add_argument("target", type=Path, metavar="DST", help="JSONL file to write; image paths relative to it")
    add_fault_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Convert; the exit code.

    Raises:
        DataError: the source cannot be read, holds nothing usable, or the target exists.
        ExtensionError: an option is absent or does not fit.
    """
    if options.target.exists():
        raise DataError(f"{options.target} exists already: give another name, or delete it")
    faults = Faults(options.strict)
    images = options.target.parent / f"{options.target.stem}-images"
    source = given_format(options)
    samples = source.read(faults, images, 0)
    first = next(samples, None)
    if first is None:
        raise DataError(f"{file_of(source, options)} holds no usable question{first_note(faults)}")
    written = write_jsonl(options.target, itertools.chain([first], samples))
    console = Console(stderr=True)
    show_notes(console, faults, options.faults)
    if source.licence.spdx != UNKNOWN:
        console.print(_terms(source.licence), markup=False, soft_wrap=True)
    print(json.dumps({"target": str(options.target), "samples": written, **counts(faults)}))
    return 0


def _terms(licence: Licence) -> str:
    """JSONL does not say under which terms its samples are; a recipe does."""
    forbidden = "" if licence.non_commercial is None else f" data.options.non_commercial={licence.non_commercial}"
    return f"licence: {licence.name}; to train on it add data.options.licence={licence.spdx}{forbidden.lower()}"
