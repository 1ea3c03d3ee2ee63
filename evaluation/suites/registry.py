"""Every benchmark by name. Modules are imported when asked for, so that scoring files needs neither torch nor ray."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from data.errors import DataError
from data.sample import TASKS
from evaluation.suites.suite import Suite


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """A benchmark in the list; the module of this package that has its name is its `Suite`."""

    title: str
    """What it measures."""
    headline: tuple[str, ...]
    """The figures that a training run draws as curves, where it measures this benchmark on its way."""
    judged: bool = False
    """Whether a judge has something to say of its answers."""
    asks: bool = True
    """Whether a model can be asked its questions; a leaderboard's result is only scored."""


_BY_TASK = tuple(TASKS)

SUITES: dict[str, SuiteEntry] = {
    "drivelm": SuiteEntry(
        "the DriveLM challenge: accuracy, language, match and final score",
        ("accuracy", "language", "final_score"),
        judged=True,
    ),
    "drivebench": SuiteEntry(
        "DriveBench: clean images, corruptions and no image",
        tuple(f"{by}/clean/{task}" for by in ("judge", "accuracy") for task in TASKS),
        judged=True,
    ),
    "drivelm_hard": SuiteEntry("DriveLM-Hard, or any samples of yours, by task", _BY_TASK, judged=True),
    "drivelmm_o1": SuiteEntry(
        "DriveLMM-o1: reasoning marks, accuracy on multiple choice",
        ("reasoning", "mcq_accuracy"),
        judged=True,
    ),
    "bdd_oia": SuiteEntry("BDD-OIA: F1 of actions and of reasons", ("actions/f1_all", "reasons/f1_all")),
    "driveaction": SuiteEntry("DriveAction: accuracy per level", ("accuracy",)),
    "open_loop": SuiteEntry(
        "open-loop planning on nuScenes: displacement and collisions",
        ("uniad/l2_mean", "vad_stp3/l2_mean"),
    ),
    "bench2drive": SuiteEntry("Bench2Drive: the leaderboard's four figures", (), asks=False),
    "rendered": SuiteEntry("rendered scenes with exact ground truth, by task", _BY_TASK, judged=True),
}


def suite_of(name: str) -> Suite:
    """The benchmark of a name.

    Raises:
        DataError: there is none.
    """
    if name not in SUITES:
        raise DataError(f"unknown benchmark {name}; benchmarks: {', '.join(SUITES)}")
    return cast(Suite, importlib.import_module(f"{__package__}.{name}"))


def options_of(name: str, given: Mapping[str, Any], place: str) -> argparse.Namespace:
    """A benchmark's options from settings: `{answers: test.json, image_root: nuscenes}`.

    Raises:
        DataError: an option is unknown, missing or of the wrong kind; `place` names the settings.
    """
    arguments: list[str] = []
    for key, value in given.items():
        option = f"--{key.replace('_', '-')}"
        if value is True:
            arguments.append(option)
        elif value is not False and value is not None:
            arguments += [option, *map(str, value if isinstance(value, list | tuple) else [value])]
    parser = _Refusing(place, name)
    suite_of(name).add_arguments(parser)
    return parser.parse_args(arguments)


class _Refusing(argparse.ArgumentParser):
    """A parser whose complaint is an error of the settings instead of the end of the process."""

    def __init__(self, place: str, name: str) -> None:
        super().__init__(prog=name, add_help=False, allow_abbrev=False)
        self._place = place

    def error(self, message: str) -> NoReturn:
        """Name the settings."""
        raise DataError(f"{self._place}: {message.replace('--', '').replace('arguments', 'settings')}")
