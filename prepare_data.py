"""Prepares driving data. Each command says on its own what it takes: python prepare_data.py COMMAND --help

python prepare_data.py check samples.jsonl --model tiny                                    what a data file holds
python prepare_data.py convert drivelm train.json samples.jsonl --image-root nuscenes      other formats to JSONL
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.bdd_oia import ReasonOrder
from data.driveaction import Language, Mode
from data.errors import DataError
from data.faults import Faults, first_note
from data.formats import FORMATS, read_source
from data.inventory import Inventory, inventory_of
from data.jsonl import write_jsonl
from data.sample import KINDS, DrivingSample
from data.settings import DataSettings

SHOWN_FAULTS = 3
TINY_CORPUS = 2_000
"""Samples whose texts the tiny model's tokenizer is trained on."""


class Command(NamedTuple):
    """What one command is for, the arguments it takes, and the function that does it and gives the exit code."""

    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


# --- check ------------------------------------------------------------------------------------------------------------


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, metavar="FILE", help="JSONL of samples (docs/data.md)")
    parser.add_argument("--format", default="jsonl", choices=list(FORMATS), dest="source", help="of FILE")
    parser.add_argument("--model", help="tiny, or a checkpoint folder: adds the prompts' lengths in tokens")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="to which frames are resized")
    _source_arguments(parser)


def _check(options: argparse.Namespace) -> int:
    settings, faults = _settings(options), Faults(options.strict)
    with tempfile.TemporaryDirectory() as scratch:
        samples = read_source(settings, Path(scratch), faults)
        if options.model is None:
            found, context = inventory_of(samples, faults), None
        else:
            lengths, context = _prompt_lengths(options, settings, Path(scratch))
            found = inventory_of(samples, faults, lengths, context)
    if not found.samples:
        raise DataError(f"{options.annotations} holds no usable question{first_note(faults)}")
    _show(options.annotations, found, faults, context)
    told = {"file": str(options.annotations), **found.as_dict(), **_counts(faults)}
    print(json.dumps(told | ({} if context is None else {"context": context})))
    return 0


def _prompt_lengths(
    options: argparse.Namespace, settings: DataSettings, scratch: Path
) -> tuple[Callable[[DrivingSample], int], int | None]:
    from policies.prompt_lengths import PromptLengths  # takes seconds to import, and only --model asks for it
    from policies.settings import PolicySettings
    from policies.source import policy_source

    policy = PolicySettings(model=options.model, image_size=options.image_size and tuple(options.image_size))
    first = itertools.islice(read_source(settings, scratch, Faults()), TINY_CORPUS) if policy.model == "tiny" else ()
    corpus = [text for sample in first for text in (sample.question, sample.answer)]
    lengths = PromptLengths(policy_source(policy, scratch, 0, corpus), policy)
    return lengths, lengths.context


def _show(file: Path, found: Inventory, faults: Faults, context: int | None) -> None:
    console = Console()
    counts = Table(title=escape(f"{file}: {found.samples} samples of {len(found.scenes)} scenes"), title_justify="left")
    counts.add_column("task")
    for name in (*KINDS, "all"):
        counts.add_column(name.replace("_", " "), justify="right")
    for row in found.table():
        counts.add_row(*row)
    console.print(counts)
    if found.prompt_tokens:
        lengths = found.as_dict()["prompt_tokens"]
        limit = f" of {context} that the model takes" if context else ""
        console.print(f"prompt tokens{limit}: " + ", ".join(f"{name} {value}" for name, value in lengths.items()))
    if not faults.notes:
        console.print("no faults")
        return
    listed = Table("reason", "what happens", "entries", title="faults", title_justify="left")
    for happens, entries in (("left out", faults.dropped), ("used", faults.kept)):
        for reason, ids in entries.items():
            listed.add_row(reason, happens, str(len(ids)))
    console.print(listed)
    _show_notes(console, faults)


# --- convert ----------------------------------------------------------------------------------------------------------


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    formats = [name for name in FORMATS if name != "jsonl"]
    parser.add_argument("source", choices=formats, metavar="FORMAT", help=", ".join(formats))
    parser.add_argument("annotations", type=Path, metavar="SRC", help="annotation file, or folder, of that format")
    parser.add_argument("target", type=Path, metavar="DST", help="JSONL file to write; image paths relative to it")
    _source_arguments(parser)


def _convert(options: argparse.Namespace) -> int:
    if options.target.exists():
        raise DataError(f"{options.target} exists already: give another name, or delete it")
    faults = Faults(options.strict)
    images = options.target.parent / f"{options.target.stem}-images"
    samples = read_source(_settings(options), images, faults)
    first = next(samples, None)
    if first is None:
        raise DataError(f"{options.annotations} holds no usable question{first_note(faults)}")
    written = write_jsonl(options.target, itertools.chain([first], samples))
    _show_notes(Console(stderr=True), faults)
    print(json.dumps({"target": str(options.target), "samples": written, **_counts(faults)}))
    return 0


# --- what both take ---------------------------------------------------------------------------------------------------


def _source_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that bear the names of the settings that they set."""
    parser.add_argument("--image-root", type=Path, help="folder that images are looked for in")
    parser.add_argument("--strict", action="store_true", help="stop at the first faulty entry")
    parser.add_argument("--reasons", type=Path, help="bdd_oia: the *_reasons.json file")
    parser.add_argument("--reason-order", choices=get_args(ReasonOrder), help="bdd_oia: order of its 21 reasons")
    parser.add_argument("--frames", type=int, help="bdd_oia: frames of each clip; 1 is the last alone")
    parser.add_argument("--visual-descriptions", type=Path, help="drivebench: visual_description.json")
    parser.add_argument("--without-images", action="store_true", help="drivebench: ask without images")
    parser.add_argument("--context-mode", choices=get_args(Mode), help="driveaction: what stands before the actions")
    parser.add_argument("--language", choices=get_args(Language), help="driveaction: language of the texts")
    parser.add_argument("--name-cameras", action="store_true", help="drivelmm_o1: cameras instead of stitched tiles")


def _settings(options: argparse.Namespace) -> DataSettings:
    given = {name: value for name, value in vars(options).items() if name in DataSettings.model_fields}
    try:
        return DataSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"--{'.'.join(map(str, first['loc'])).replace('_', '-')}: {first['msg']}") from None


def _counts(faults: Faults) -> dict[str, Any]:
    return {
        "dropped": {reason: len(ids) for reason, ids in faults.dropped.items()},
        "kept_with_fault": {reason: len(ids) for reason, ids in faults.kept.items()},
    }


def _show_notes(console: Console, faults: Faults) -> None:
    for note in itertools.islice(faults.notes, SHOWN_FAULTS):
        console.print(note, markup=False, soft_wrap=True)
    if len(faults.notes) > SHOWN_FAULTS:
        console.print(f"and {len(faults.notes) - SHOWN_FAULTS} more")


COMMANDS: dict[str, Command] = {
    "check": Command("count what a data file holds, and what would be left out and why", _check_arguments, _check),
    "convert": Command("write a dataset as JSONL of samples", _convert_arguments, _convert),
}


def main(arguments: list[str]) -> int:
    """Do one command; its exit code."""
    parser = argparse.ArgumentParser(prog="prepare_data.py", description="Prepare driving data.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.purpose, description=command.purpose))
    options = parser.parse_args(arguments)
    return COMMANDS[options.command].run(options)


if __name__ == "__main__":
    # Not above: it loads Ray and torch, and most commands need neither.
    from cluster.command import command as run_script

    run_script(main)
