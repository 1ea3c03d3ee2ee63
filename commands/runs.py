"""The runs of a folder: list them, show one, compare several, tag them, and free the disk of what is not needed.

    python -m commands.runs                          # a line for each run below runs/, the newest first
    python -m commands.runs show NAME
    python -m commands.runs compare NAME NAME ...     # what differs in their recipes, and what they reached
    python -m commands.runs tag NAME WORD ...         # with - before a word: take it away
    python -m commands.runs clean [NAME ...]          # says what could go; with --yes it goes

`--root` names another folder of runs, `--json` prints one JSON object a run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actors.record.run_folder import is_in_use
from commands.script import guarded
from data.errors import DataError
from evaluation.numbers import fixed
from evaluation.run_list import RunLine, differing, line_of, runs_in, write_tags
from evaluation.run_record import CHECKPOINTS_FOLDER, RECIPE_FILE, SUPERVISED_FOLDER
from extension import at_home, nearest

CLEANABLE = (CHECKPOINTS_FOLDER, SUPERVISED_FOLDER, "actor_logs", "skipped")
"""What a finished run can do without: it can then not be trained on, and everything else of it stays."""


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; the exit code. Input that must be mended is one sentence and exit code 2."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", type=Path, default=argparse.SUPPRESS, help="folder of the runs (default: runs)")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="JSON instead of a table")
    parser = argparse.ArgumentParser(
        prog="python -m commands.runs", description=__doc__, parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(command="list", root=Path("runs"), json=False, tag=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    listed = commands.add_parser("list", parents=[common], help="a line for each run")
    listed.add_argument("--tag", help="only runs that have this tag")
    commands.add_parser("show", parents=[common], help="one run").add_argument("names", nargs=1, metavar="NAME")
    commands.add_parser("compare", parents=[common], help="several").add_argument("names", nargs="+", metavar="NAME")
    tagging = commands.add_parser("tag", parents=[common], help="give a run words to find it by")
    tagging.add_argument("names", nargs=1, metavar="NAME")
    tagging.add_argument("words", nargs="+", metavar="WORD")
    cleaning = commands.add_parser("clean", parents=[common], help="free the disk of what finished runs do not need")
    cleaning.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all that are finished)")
    cleaning.add_argument("--yes", action="store_true", help="remove it")
    # A word such as -old would be an option to argparse.
    options, rest = parser.parse_known_args([at_home(one) for one in arguments])
    if rest and options.command == "tag":
        options.words += rest
    elif rest:
        parser.error(f"unknown argument {rest[0]}")
    does: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list, "show": _show, "compare": _compare, "tag": _tag, "clean": _clean,
    }  # fmt: skip
    return guarded(lambda: does[options.command or "list"](options))


def _lines(options: argparse.Namespace, names: Sequence[str] = ()) -> list[RunLine]:
    """The runs that are asked for; all of them where none is named.

    Raises:
        DataError: there is no such run.
    """
    there = {folder.name: folder for folder in runs_in(options.root)}
    if unknown := [name for name in names if name not in there and not (Path(name) / RECIPE_FILE).is_file()]:
        raise DataError(f"{options.root} holds no run {unknown[0]} ({nearest(unknown[0], there)})")
    folders = [there.get(name, Path(name)) for name in names] or list(there.values())
    return [line_of(folder, in_use=is_in_use(folder)) for folder in folders]


def _list(options: argparse.Namespace) -> int:
    lines = [line for line in _lines(options) if options.tag is None or options.tag in line.tags]
    lines.sort(key=lambda line: line.started, reverse=True)
    if options.json:
        for line in lines:
            print(json.dumps(line.as_dict()))
        return 0
    table = Table(title=f"{len(lines)} run{'' if len(lines) == 1 else 's'} in {options.root}", title_justify="left")
    for column, side in (("run", "left"), ("state", "left"), ("steps", "right"), ("before", "right"),
                         ("after", "right"), ("started", "left"), ("MiB", "right"), ("tags", "left")):  # fmt: skip
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for line in lines:
        table.add_row(
            line.name, line.state, f"{line.step}/{line.planned}", fixed(line.before), fixed(line.after),
            line.started[:16].replace("T", " "), f"{line.bytes / 2**20:,.0f}", ", ".join(line.tags),
        )  # fmt: skip
    Console().print(table)
    return 0


def _show(options: argparse.Namespace) -> int:
    (line,) = _lines(options, options.names)
    if options.json:
        print(json.dumps(line.as_dict()))
        return 0
    tasks = ", ".join(f"{task} {fixed(value)}" for task, value in line.tasks.items())
    shown = {
        "folder": line.folder,
        "state": f"{line.state}, step {line.step} of {line.planned}",
        "started": line.started,
    }
    shown |= {"reward": f"{fixed(line.before)} before, {fixed(line.after)} after", "tasks": tasks}
    shown |= {"size": f"{line.bytes / 2**20:,.0f} MiB", "tags": ", ".join(line.tags), "unread": "; ".join(line.unread)}
    for name, value in shown.items():
        if value:
            print(f"{name:<10}{value}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    lines = _lines(options, options.names)
    different = differing([line.folder for line in lines])
    if options.json:
        print(json.dumps({"runs": [line.as_dict() for line in lines], "settings": different}))
        return 0
    table = Table("", *(line.name for line in lines))
    table.add_row("state", *(line.state for line in lines))
    table.add_row("reward before", *(fixed(line.before) for line in lines))
    table.add_row("reward after", *(fixed(line.after) for line in lines), end_section=True)
    for task in dict.fromkeys(task for line in lines for task in line.tasks):
        table.add_row(f"  {task}", *(fixed(line.tasks.get(task)) for line in lines))
    table.add_section()
    for key, values in different.items():
        table.add_row(key, *values)
    Console().print(table)
    print(
        "answers to the same questions, with intervals: "
        f"python evaluate.py compare {lines[0].folder} {lines[-1].folder}"
    )
    return 0


def _tag(options: argparse.Namespace) -> int:
    (line,) = _lines(options, options.names)
    gone = {word.removeprefix("-") for word in options.words if word.startswith("-")}
    tags = [tag for tag in dict.fromkeys([*line.tags, *options.words]) if not tag.startswith("-") and tag not in gone]
    write_tags(line.folder, tags)
    print(f"{line.name}: {', '.join(tags) or 'no tags'}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    """Remove, or name, the checkpoints and logs of finished runs; what runs or can go on is left alone."""
    freed = 0
    for line in _lines(options, options.names):
        found = [line.folder / name for name in CLEANABLE if (line.folder / name).is_dir()]
        if line.state != "finished":
            if options.names:
                print(f"{line.name} is {line.state}: its checkpoints are needed to go on; nothing of it was removed")
            continue
        for folder in found:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            freed += size
            print(f"{'removed' if options.yes else 'would remove'} {folder} ({size / 2**20:,.0f} MiB)")
            if options.yes:
                shutil.rmtree(folder)
    done = "freed" if options.yes else "would be freed; with --yes it is"
    print(f"{freed / 2**20:,.0f} MiB {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
