"""The part of a command line that names a dataset: its class, its options as flags, what was wrong with its files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from data.faults import Faults
from data.formats.format import FORMATS, Format, format_class
from extension import add_flags, first_sentence, from_flags

FORMAT = "--format"
_FILE = "annotations"


def chosen_format(arguments: Sequence[str], default: str) -> type[Format]:
    """The dataset that `--format` of a command line names; what else stands there is looked at later.

    Raises:
        ExtensionError: as `format_class`.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument(FORMAT, default=default)
    return format_class(first.parse_known_args(arguments)[0].format, FORMAT)


def add_format_choice(parser: argparse.ArgumentParser, default: str, what: str) -> None:
    """`--format`, whose value `chosen_format` has looked up already; `what` it is the format of."""
    known = ", ".join(FORMATS)
    note = f"of {what}: {known}, or module:Class (default: {default}); with --help its own options are listed too"
    parser.add_argument(FORMAT, default=default, dest="source", metavar="FORMAT", help=note)


def add_format_arguments(parser: argparse.ArgumentParser, kind: type[Format], file: str = "") -> None:
    """The options of a dataset: its annotations under the name `file`, where one is given, the others as flags.

    A flag that the command has already is called `--source-...` for the dataset.
    """
    model = kind.Settings
    if file and _FILE in model.model_fields:
        parser.add_argument(_FILE, type=Path, metavar=file, help=first_sentence(model, _FILE))
    group = parser.add_argument_group(f"options of {kind.__name__}")
    parser.set_defaults(kind=kind, flags=add_flags(group, model, skip=(_FILE,) if file else (), prefix="source"))


def add_fault_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done about faulty entries."""
    parser.add_argument("--strict", action="store_true", help="stop at the first faulty entry")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="write every faulty entry, by reason, as JSON")


def given_settings(options: argparse.Namespace) -> BaseModel:
    """The options of the dataset that a command line gives.

    Raises:
        ExtensionError: an option is absent or does not fit; its flag is named.
    """
    kind: type[Format] = options.kind
    return from_flags(kind.Settings, options, options.flags)


def given_format(options: argparse.Namespace) -> Format:
    """The dataset with these options.

    Raises:
        ExtensionError: as `given_settings`.
    """
    kind: type[Format] = options.kind
    return kind(given_settings(options))


def file_of(source: Format, options: argparse.Namespace) -> Path:
    """What an error calls the data: the first file that is read, or the dataset's name where none is."""
    return next(iter(source.files().values()), Path(options.source))


def counts(faults: Faults) -> dict[str, Any]:
    """How many entries were left out, and how many used in spite of a fault, by reason."""
    return {
        "dropped": {reason: len(ids) for reason, ids in faults.dropped.items()},
        "kept_with_fault": {reason: len(ids) for reason, ids in faults.kept.items()},
    }


def show_notes(console: Console, faults: Faults, listed: Path | None) -> None:
    """The first fault of each reason in words, how many more there are, and where all are: in the file `listed`."""
    first = {reason: note for note, reason in reversed(faults.notes.items())}
    for reason in dict.fromkeys(faults.notes.values()):
        console.print(first[reason], markup=False, soft_wrap=True)
    if listed is not None:
        listing = {"entries": faults.as_dict(), "notes": list(faults.notes)}
        listed.write_text(json.dumps(listing, indent=1, ensure_ascii=False), encoding="utf-8")
        console.print(f"all faults: {listed}", markup=False, soft_wrap=True)
    elif len(faults.notes) > len(first):
        console.print(f"and {len(faults.notes) - len(first)} more; --faults FILE lists them")
