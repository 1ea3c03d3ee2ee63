"""The options of the commands that read driving data: they bear the names of the settings that they set."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console

from data.errors import DataError
from data.faults import Faults
from data.formats.bdd_oia import ReasonOrder, Reply
from data.formats.driveaction import Language, Mode
from data.settings import DataSettings

_SETTING = re.compile(rf"(?<![\w/.-])(?:data|policy)\.({'|'.join([*DataSettings.model_fields, 'model'])})\b")


def add_source_arguments(parser: argparse.ArgumentParser, clip_frames: str = "--frames") -> None:
    """Options that bear the names of the settings that they set.

    `clip_frames` is the flag of the setting `frames`, for a command in which `--frames` means another thing.
    """
    parser.add_argument("--image-root", type=Path, help="folder that images are looked for in")
    parser.add_argument("--strict", action="store_true", help="stop at the first faulty entry")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="write every faulty entry, by reason, as JSON")
    parser.add_argument("--reasons", type=Path, help="bdd_oia: the *_reasons.json file")
    parser.add_argument("--reason-order", choices=get_args(ReasonOrder), help="bdd_oia: order of its 21 reasons")
    parser.add_argument("--reply", choices=get_args(Reply), help="bdd_oia: what is asked for (default: decide)")
    parser.add_argument(clip_frames, dest="frames", type=int, help="bdd_oia: frames of each clip; 1 is the last alone")
    parser.add_argument("--visual-descriptions", type=Path, help="drivebench: visual_description.json")
    parser.add_argument("--without-images", action="store_true", help="drivebench: ask without images")
    parser.add_argument("--context-mode", choices=get_args(Mode), help="driveaction: what stands before the actions")
    parser.add_argument("--language", choices=get_args(Language), help="driveaction: language of the texts")
    parser.add_argument("--name-cameras", action="store_true", help="drivelmm_o1: cameras instead of stitched tiles")


def source_settings(options: argparse.Namespace, clip_frames: str = "--frames") -> DataSettings:
    """The settings that the options give; `clip_frames` as in `add_source_arguments`.

    Raises:
        DataError: a value does not fit; the option is named.
    """
    given = {name: value for name, value in vars(options).items() if name in DataSettings.model_fields}
    try:
        return DataSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        flag = clip_frames if name == "frames" else f"--{name.replace('_', '-')}"
        raise DataError(f"{flag}: {first['msg']}") from None


def as_flags(message: str) -> str:
    """A complaint about settings in the words of a command line, which has flags for them, and FILE."""
    message = message.replace("data.annotations (", "FILE (").replace("data.annotations ", "")
    message = message.replace("data.source=", "--format ").replace("data.source", "--format")
    return _SETTING.sub(lambda found: f"--{found[1].replace('_', '-')}", message)


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
        told = {"entries": faults.as_dict(), "notes": list(faults.notes)}
        listed.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        console.print(f"all faults: {listed}", markup=False, soft_wrap=True)
    elif len(faults.notes) > len(first):
        console.print(f"and {len(faults.notes) - len(first)} more; --faults FILE lists them")
