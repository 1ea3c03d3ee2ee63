"""`prepare_data.py check`: what a data file holds, how long its prompts are, and what would be left out and why."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.errors import DataError
from data.faults import Faults, first_note
from data.formats.format import Format
from data.inventory import Inventory, inventory_of
from data.sample import KINDS
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
from policies.settings import TINY, PolicySettings
from recipe import RecipeError, load_recipe

if TYPE_CHECKING:
    from policies.fitting import Fitting
    from policies.prompt_lengths import PromptLengths

TINY_CORPUS = 2_000
"""Samples whose texts the tiny model's tokenizer is trained on."""


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The arguments of the command.

    Raises:
        ExtensionError: there is no format of that name.
    """
    add_format_choice(parser, "jsonl", "FILE")
    shown = "the prompts' lengths in tokens, and what the model cannot be asked"
    parser.add_argument("--model", help=f"tiny, or a checkpoint folder: adds {shown}")
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("W", "H"), help="to which frames are resized")
    parser.add_argument("--recipe", type=Path, metavar="YAML", help=f"as a run of it would find them: {shown}")
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
        if options.model is None and options.recipe is None:
            found, context = inventory_of(samples), None
        else:
            lengths, fitting = _fitting(options, source, Path(scratch))
            found, context = inventory_of(fitting.admitted(samples, faults), lengths), lengths.context
    if not found.samples:
        if options.faults is not None:  # all of them, where nothing else is there to be shown
            show_notes(Console(stderr=True), faults, options.faults)
        raise DataError(f"{file} holds no usable question{first_note(faults)}")
    _show(file, found, faults, context, options.faults)
    reported = {"file": str(file), **found.as_dict(), **counts(faults)}
    print(json.dumps(reported | ({} if context is None else {"context": context})))
    return 0


def _fitting(options: argparse.Namespace, source: Format, scratch: Path) -> tuple[PromptLengths, Fitting]:
    """The lengths of a model's prompts, and what looks at samples for it: by itself, or as in a recipe."""
    from policies.fitting import Fitting, Limits  # take seconds to import, and only a model asks for them
    from policies.prompt_lengths import PromptLengths
    from policies.source import policy_source

    fitting = None
    try:
        recipe = None if options.recipe is None else load_recipe([str(options.recipe)])
        size = options.image_size and tuple(options.image_size)
        given = {"model": options.model, "image_size": size}
        own = PolicySettings() if recipe is None else recipe.policy
        policy = own.model_copy(update={name: value for name, value in given.items() if value is not None})
        first = itertools.islice(source.read(Faults(), scratch, 0), TINY_CORPUS) if policy.model == TINY else ()
        corpus = [text for sample in first for text in (sample.question, sample.answer)]
        lengths = PromptLengths(policy_source(policy, scratch, 0, corpus), policy)
        if recipe is not None:
            from actors.fitted import fitting_of

            fitting = fitting_of(recipe.model_copy(update={"policy": policy}), lengths, answers=True)
    except (PolicyError, RecipeError) as error:
        named = str(error) if options.model is None else str(error).replace("policy.model", "--model")
        raise DataError(named) from None
    if fitting is not None:
        return lengths, fitting
    room = None if lengths.context is None else lengths.context - 1
    limits = Limits(None, room, f"the model, which takes {lengths.context} with the answer,")
    return lengths, Fitting(lengths, limits, strip=False)


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
