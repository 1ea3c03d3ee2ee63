"""Prepares driving data. Each command says on its own what it takes: python prepare_data.py COMMAND --help

python prepare_data.py check samples.jsonl --model tiny                                    what a data file holds
python prepare_data.py convert drivelm train.json samples.jsonl --image-root nuscenes      other formats to JSONL
python prepare_data.py corrupt nuscenes/samples data/corruption --corruption all           DriveBench's 15 corruptions
python prepare_data.py build training samples.jsonl --out train --scores align=scores ...  the paper's two subsets
python prepare_data.py distil --annotations train.json --image-root nuscenes ...           reasoning by a teacher model
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NamedTuple

from data.errors import DataError
from extension import ExtensionError, at_home


class Command(NamedTuple):
    """One command: what it is for, and the module with its `add_arguments(parser, arguments)` and its `run(options)`.

    `arguments` are those that follow the command: they may decide which options there are. `run` returns the exit code.
    The module is imported when its command is asked for; none of them needs Ray.
    """

    purpose: str
    module: str


COMMANDS: dict[str, Command] = {
    "check": Command("count what a data file holds, and what would be left out and why", "commands.check"),
    "convert": Command("write a dataset as JSONL of samples", "commands.convert"),
    "corrupt": Command("write a corrupted copy of a nuScenes image tree", "commands.corrupt"),
    "build": Command("choose a training set, or a hard one, by difficulty", "commands.build"),
    "distil": Command("ask a teacher model how answers come about", "commands.distil"),
}


def main(arguments: list[str]) -> int:
    """Do one command; its exit code. Input that must be mended is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="prepare_data.py", description="Prepare driving data.")
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    try:
        for name, command in COMMANDS.items():
            subparser = names.add_parser(name, help=command.purpose, description=command.purpose)
            if name == chosen:
                importlib.import_module(command.module).add_arguments(subparser, arguments[1:])
        options = parser.parse_args(arguments)
        return int(importlib.import_module(COMMANDS[options.command].module).run(options))
    except (DataError, ExtensionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main([at_home(one) for one in sys.argv[1:]]))
