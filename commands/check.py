"""`prepare_data.py check`: what a data file holds, how long its prompts are, and what would be left out and why."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.format import Format
from data.inventory import Inventory, inventory_of
from data.sample import KINDS, DrivingSample
from data.source_arguments import (
    add_fault_arguments,
    add_format_arguments,
    add_format_choice,
    chosen_format,
    counts,
    file_of,
    given_format,
    show_notes,
)
from policies.errors import PolicyError
from policies.settings import PolicySettings

TINY_CORPUS = 2_000
"""Samples whose texts the tiny model's tokenizer is trained on."""


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of the command.

    Raises:
        ExtensionError: there is no format of that name.
    """
    add_format_choice(parser, "jsonl", "FILE")
    parser.add_argument("--model", help="tiny, or a checkpoint folder: adds the prompts' lengths in tokens")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="to which frames are resized")
    add_fault_arguments(parser)
    add_format_arguments(parser, chosen_format(arguments, "jsonl"), "FILE")


def run(options: argparse.Namespace) -> int:
    """Count and show; the exit code.

    Raises:
        DataError: the file cannot be read or holds nothing usable, or the model cannot be used.
        ExtensionError: an option is absent or does not fit.
    """
    source, faults = given_format(options), Faults(options.strict)
    file = file_of(source, options)
    with tempfile.TemporaryDirectory() as scratch:
        samples = source.read(faults, Path(scratch), 0)
        if options.model is None:
            found, context = inventory_of(samples, faults), None
        else:
            lengths, context = _prompt_lengths(options, source, Path(scratch))
            found = inventory_of(samples, faults, lengths, context)
    if not found.samples:
        raise DataError(f"{file} holds no usable question{first_note(faults)}")
    _show(file, found, faults, context, options.faults)
    reported = {"file": str(file), **found.as_dict(), **counts(faults)}
    print(json.dumps(reported | ({} if context is None else {"context": context})))
    return 0


def _prompt_lengths(
    options: argparse.Namespace, source: Format, scratch: Path
) -> tuple[Callable[[DrivingSample], int], int | None]:
    from policies.prompt_lengths import PromptLengths  # takes seconds to import, and only --model asks for it
    from policies.source import policy_source

    policy = PolicySettings(model=options.model, image_size=options.image_size and tuple(options.image_size))
    first = itertools.islice(source.read(Faults(), scratch, 0), TINY_CORPUS) if policy.model == "tiny" else ()
    corpus = [text for sample in first for text in (sample.question, sample.answer)]
    try:
        lengths = PromptLengths(policy_source(policy, scratch, 0, corpus), policy)
    except PolicyError as error:
        raise DataError(str(error).replace("policy.model", "--model")) from None
    return lengths, lengths.context


def _show(file: Path, found: Inventory, faults: Faults, context: int | None, listed: Path | None) -> None:
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
    table = Table("reason", "what happens", "entries", title="faults", title_justify="left")
    for happens, entries in (("left out", faults.dropped), ("used", faults.kept)):
        for reason, ids in entries.items():
            table.add_row(reason, happens, str(len(ids)))
    console.print(table if table.rows else "no faults")
    show_notes(console, faults, listed)
