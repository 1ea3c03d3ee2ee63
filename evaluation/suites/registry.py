"""The built-in benchmarks by name, and how a name with options becomes one. Imports a benchmark only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.suites.suite import Suite, SuiteOptions
from extension import ExtensionError, resolve, validated

SUITES: dict[str, str] = {
    "drivelm": "evaluation.suites.drivelm:DriveLM",
    "drivebench": "evaluation.suites.drivebench:DriveBench",
    "drivelm_hard": "evaluation.suites.drivelm_hard:DriveLMHard",
    "drivelmm_o1": "evaluation.suites.drivelmm_o1:DriveLMMo1",
    "bdd_oia": "evaluation.suites.bdd_oia:BddOia",
    "driveaction": "evaluation.suites.driveaction:DriveAction",
    "open_loop": "evaluation.suites.open_loop:OpenLoop",
    "bench2drive": "evaluation.suites.bench2drive:Bench2Drive",
    "rendered": "evaluation.suites.rendered:Rendered",
}
IN_RECIPES = "evaluation.suites"

_GONE = {
    **dict.fromkeys(
        ("predictions", "id_key", "answer_key"), "is about a predictions file, but here the policy answers"
    ),
    "cache": "is no option of a benchmark any more: what it draws lies in run.root",
}
"""What was taken there, and did nothing or has another place."""


def suite_class(name: str, setting: str = "benchmark") -> type[Suite]:
    """The class of a name, or of a `module:Class` of one's own; `setting` is what holds the name, for messages.

    Raises:
        ExtensionError: there is none, or it lacks something of `Suite`.
    """
    found = resolve(name, SUITES, Suite, setting)
    if not (isinstance(found.Options, type) and issubclass(found.Options, SuiteOptions)):
        raise ExtensionError(f"{setting}={name}: its Options are no subclass of evaluation.suites.suite.SuiteOptions")
    return found


def suite_of_record(name: str) -> type[Suite] | None:
    """The class that a record names; None where it cannot be had, as one's own in another place."""
    try:
        return suite_class(name)
    except ExtensionError:
        return None


def suites_of(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[type[Suite], SuiteOptions]]:
    """The benchmarks of `evaluation.suites` with their options.

    Raises:
        ExtensionError: a name or an option is unknown, an option is missing or does not fit, or one asks no model.
    """
    found = {}
    for name, given in settings.items():
        place = f"{IN_RECIPES}.{name}"
        suite = suite_class(name, IN_RECIPES)
        if gone := next((key for key in given if key in _GONE and key not in suite.Options.model_fields), None):
            raise ExtensionError(f"{place}.{gone} {_GONE[gone]}: leave it out")
        if not suite.asks:
            raise ExtensionError(f"{place} asks no model: it scores the result of a leaderboard")
        found[name] = (suite, validated(suite.Options, given, place))
    return found
